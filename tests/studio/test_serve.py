"""The example of a server: users at once get what each would get alone, in fewer passes."""

from __future__ import annotations

import importlib.util
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import uvicorn

import isthmus

TEXTS = [f"{a} {b}" for a in "ab" for b in ("a b c", "c", "b b a", "a c b")]


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "serve.py"
    spec = importlib.util.spec_from_file_location("serve", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def space(runs):
    return isthmus.Space.load(runs["text"])


@pytest.fixture(scope="module")
def address(example, space):
    server = uvicorn.Server(uvicorn.Config(example.make(space), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api"
    server.should_exit = True
    thread.join()


@pytest.fixture
def passes(space):
    """One entry for each pass of the encoder: how many texts were in it."""
    found = []
    hook = space.model.encoder.head.register_forward_hook(
        lambda module, given, result: found.append(len(result))
    )
    yield found
    hook.remove()


def ask(address, **body):
    answer = httpx2.post(address, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_users_at_once_get_their_own_answers_in_fewer_passes(address, space, passes):
    def walk(text):
        z = ask(f"{address}/encode", texts=[text])["z"]
        [back] = ask(f"{address}/decode", z=z)["texts"]
        return z, back, ask(f"{address}/interpolate", a=text, b=TEXTS[0], steps=2)["texts"]

    alone = [walk(text) for text in TEXTS]
    assert passes == [1, 2] * len(TEXTS)
    passes.clear()
    with ThreadPoolExecutor(len(TEXTS)) as users:
        together = [*users.map(walk, TEXTS)]
    assert sum(passes) == 3 * len(TEXTS)
    assert len(passes) < 2 * len(TEXTS)
    for text, (z, back, way), (others_z, *others) in zip(TEXTS, alone, together, strict=True):
        assert z[0] == pytest.approx(space.embed(text), abs=1e-5)
        assert others_z[0] == pytest.approx(z[0], abs=1e-5)
        assert [back, way] == others
        assert back == space.reconstruct(text)
        assert way == space.interpolate(text, TEXTS[0], 2)


def test_what_is_refused_is_refused_alone(address):
    for name, body, reason in [
        ("encode", {"texts": [""]}, "text: got an empty text"),
        ("decode", {"z": [[1.0, 2.0, 3.0], [1.0]]}, "latents: got"),
        ("decode", {"z": [[1.0]]}, "latents: got the shape [1, 1], expected […, 3]"),
    ]:
        answer = httpx2.post(f"{address}/{name}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(reason)
    many = ["a"] * 65
    assert httpx2.post(f"{address}/encode", json={"texts": many}).status_code == 422
    foreign = {"host": "example.org"}
    assert httpx2.post(f"{address}/encode", json={}, headers=foreign).status_code == 400
