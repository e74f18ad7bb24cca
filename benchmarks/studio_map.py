"""The map of 100, 10,000 and 200,000 sentences: when it is ready, and how fast it answers.

    python benchmarks/studio_map.py [RUN]

RUN is by default the one that comes with Isthmus. The sentences are those of `scenes`, labelled
with their style.
Writes results/studio_map.json.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import common
from isthmus.data import scenes
from studio_load import Client, clicks, resident, serving, spread

SIZES = (100, 10_000, 200_000)
TIMES = 50
WORDS = ("dog", "circle", "meadow", "tangerine")


def until(client: Client, ready: Any) -> float:
    """Seconds until the projections meet a condition."""
    begin = time.perf_counter()
    while not ready(client.ask("GET", "/api/map")[1]["projections"]):
        time.sleep(0.2)
    return time.perf_counter() - begin


def fetched(client: Client, address: str) -> float:
    """Seconds to get the coordinates of a map."""
    begin = time.perf_counter()
    status, size = client.size(address)
    assert status == 200
    assert size
    return time.perf_counter() - begin


def measured(words: list[str], corpus: Path) -> dict[str, Any]:
    """All times of one corpus."""
    with serving([*words, "--data", str(corpus)]) as (port, process):
        client = Client(port)
        begin = time.perf_counter()
        early = until(client, lambda p: p["pca"]["state"] in ("working", "ready"))
        until(client, lambda p: p["pca"]["state"] == "ready")
        whole = time.perf_counter() - begin
        client.ask("POST", "/api/map/tsne", {})
        tsne = until(client, lambda p: p["tsne"]["state"] == "ready")
        draw = random.Random(0)
        texts = [client.ask("GET", "/api/run")[1]["examples"][0], "a red dog"]
        near, found, there = [], [], []
        for number in range(TIMES):
            body = {"input": texts[number % 2], "count": 10}
            near.append(client.post(("neighbours", body))[2])
            found.append(client.ask("GET", f"/api/find?text={draw.choice(WORDS)}")[2])
            place = [draw.uniform(-1, 1), draw.uniform(-1, 1)]
            request = ("decode", {"place": place, "projection": "tsne"})
            there.append(client.post(request)[2])
        return {
            "seconds_to_a_first_map": early,
            "seconds_to_the_whole_map": whole,
            "seconds_for_tsne": tsne,
            "seconds_to_fetch_points": fetched(client, "/api/map/points?projection=pca"),
            "click_to_text": clicks(client),
            "click_to_text_tsne": spread(there),
            "neighbours": spread(near),
            "find": spread(found),
            "resident_mib": resident(process),
        }


def main() -> None:
    """Measure each size."""
    words = sys.argv[1:2]
    figures: dict[str, Any] = {"cores": os.cpu_count(), "sizes": {}}
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "scenes.tsv"
        for size in SIZES:
            with corpus.open("w", encoding="utf-8") as file:
                for sentence in scenes.generate("train", size):
                    file.write(f"{sentence.factors['style']}\t{sentence.text}\n")
            figures["sizes"][str(size)] = measured(words, corpus)
            figures["sizes"][str(size)]["load_of_the_machine"] = os.getloadavg()[0]
            print(size, figures["sizes"][str(size)], flush=True)
    common.write("studio_map", figures)


if __name__ == "__main__":
    main()
