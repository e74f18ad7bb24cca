"""The studio under load: from click to text, 200 requests at once, memory over 5,000 requests.

Requests go through the loopback interface to a server in a separate process, as from a browser.
Each answer is compared with the answer to the same request alone.

    python benchmarks/studio_load.py [RUN] [--data FILE]

RUN is by default the one that comes with Isthmus. Writes results/studio_load.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from threading import local
from typing import Any

import common

CLICKS = 300
AT_ONCE = 200
MANY, CLIENTS = 5000, 8
EVERY, SHORT = 500, 4
PATIENCE = 300
"""Seconds that a request may take while 200 wait."""
IDLE = 3

Request = tuple[str, dict[str, Any]]


@contextmanager
def serving(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server in a separate process: its port and process id."""
    command = [sys.executable, "-m", "isthmus", "studio", *words, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = ""
        while "http://" not in line:
            line = process.stderr.readline()
            assert line, "the server ended before it was ready"
        yield int(line.partition("http://127.0.0.1:")[2].partition("/")[0]), process.pid
    finally:
        process.terminate()
        process.wait()


class Client:
    """One connection per thread."""

    def __init__(self, port: int) -> None:
        self.port, self.mine = port, local()

    def size(self, address: str) -> tuple[int, int]:
        """Status and number of bytes of an answer that is not JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", address)
        response = connection.getresponse()
        found = response.status, len(response.read())
        connection.close()
        return found

    def ask(self, method: str, address: str, body: Any = None) -> tuple[int, Any, float]:
        """Status, answer, seconds."""
        if time.monotonic() > getattr(self.mine, "until", 0):
            # The server closes connections after five idle seconds; a browser would reconnect.
            self.mine.connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        begin = time.perf_counter()
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        self.mine.connection.request(method, address, content, headers)
        response = self.mine.connection.getresponse()
        found = json.loads(response.read())
        self.mine.until = time.monotonic() + IDLE
        return response.status, found, time.perf_counter() - begin

    def post(self, request: Request) -> tuple[int, Any, float]:
        """Send a request of a kind."""
        return self.ask("POST", f"/api/{request[0]}", request[1])


def requests(examples: list[str], dimension: int, tokens: int = 64) -> list[Request]:
    """Different requests of every kind, whose texts have at most `tokens` tokens."""
    short = {"max_new_tokens": tokens}
    pairs = list(pairwise(examples))
    found: list[Request] = []
    for number, (a, b) in enumerate(pairs):
        found += [
            ("decode", {"place": [0.1 * number - 0.5, 0.3 - 0.05 * number]}),
            ("walk", {"a": a, "b": b, "position": 0.1 * (number % 10)}),
            ("walk", {"a": a, "b": b, "steps": number % 4}),
            ("encode", {"inputs": [a, b]}),
            ("dimensions", {"input": a, "offsets": {str(dimension): number - 4}}),
            ("sample", {"count": 2, "seed": number}),
        ]
    for _, body in found:
        body["decoding"] = {**short, "sample": "seed" in body}
    return found + [("neighbours", {"input": b, "count": 5}) for _, b in pairs]


def resident(process: int) -> float:
    """Resident size of a process, MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and tail in milliseconds."""
    ordered = sorted(1000 * each for each in seconds)
    last = len(ordered) - 1
    return {
        "p50_ms": ordered[last // 2],
        "p99_ms": ordered[round(0.99 * last)],
        "largest_ms": ordered[-1],
        "requests": len(ordered),
    }


def clicks(client: Client) -> dict[str, float]:
    """Random points of the map, one after the other."""
    draw = random.Random(0)
    seconds = []
    for _ in range(CLICKS):
        place = [draw.uniform(-1, 1), draw.uniform(-1, 1)]
        status, _, took = client.post(("decode", {"place": place}))
        assert status == 200
        seconds.append(took)
    return spread(seconds)


def compare(client: Client, asked: list[Request], alone: list[Any], order: list[int],
            threads: int) -> dict[str, Any]:  # fmt: skip
    """Send requests in an order from several clients; count lost and different answers."""
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        answers = list(pool.map(lambda number: client.post(asked[number]), order))
        took = time.perf_counter() - begin
    good = [status == 200 for status, _, _ in answers]
    same = [answer == alone[n] for (_, answer, _), n in zip(answers, order, strict=True)]
    return {
        "clients": threads,
        "lost": good.count(False),
        "wrong": sum(fine and not equal for fine, equal in zip(good, same, strict=True)),
        "requests_per_second": len(order) / took,
        **spread([seconds for _, _, seconds in answers]),
    }


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="")
    parser.add_argument("--data", default="")
    given = parser.parse_args()
    words = [word for word in [given.run, *(["--data", given.data] * bool(given.data))] if word]
    begin = time.perf_counter()
    with serving(words) as (port, process):
        client = Client(port)
        client.ask("GET", "/api/run")
        started = time.perf_counter() - begin
        while client.ask("GET", "/api/map")[1]["colours"][-1]["state"] != "ready":
            time.sleep(0.5)
        encoded = time.perf_counter() - begin - started
        for _ in range(20):  # let encoding settle; an idle connection would be closed
            time.sleep(0.5)
            client.ask("GET", "/api/map")
        about = client.ask("GET", "/api/run")[1]
        asked = requests(about["examples"], about["dimensions"][0]["dimension"])
        alone = [client.post(request)[1] for request in asked]
        draw = random.Random(0)
        figures: dict[str, Any] = {
            "run": about["name"],
            "parameters": about["parameters"],
            "corpus": about["corpus"]["count"],
            "cores": os.cpu_count(),
            "load_of_the_machine_before": os.getloadavg()[0],
            "seconds_to_the_first_page": started,
            "seconds_to_encode_the_corpus": encoded,
            "click_to_text": clicks(client),
        }
        print(json.dumps(figures["click_to_text"]), flush=True)
        order = [draw.randrange(len(asked)) for _ in range(AT_ONCE)]
        figures["at_once"] = compare(client, asked, alone, order, AT_ONCE)
        print(json.dumps(figures["at_once"]), flush=True)
        # Short texts, so that many fit into minutes.
        asked = requests(about["examples"], about["dimensions"][0]["dimension"], SHORT)
        alone = [client.post(request)[1] for request in asked]
        memory = [resident(process)]
        lost = wrong = 0
        for _ in range(MANY // EVERY):
            order = [draw.randrange(len(asked)) for _ in range(EVERY)]
            part = compare(client, asked, alone, order, CLIENTS)
            lost, wrong = lost + part["lost"], wrong + part["wrong"]
            memory.append(resident(process))
            print(json.dumps({"resident_mib": memory[-1], **part}), flush=True)
        figures["memory"] = {
            "requests": MANY,
            "longest_text_tokens": SHORT,
            "lost": lost,
            "wrong": wrong,
            "resident_mib_before": memory[0],
            "resident_mib_after": memory[-1],
            f"resident_mib_every_{EVERY}": memory,
        }
    common.write("studio_load", figures)


if __name__ == "__main__":
    main()
