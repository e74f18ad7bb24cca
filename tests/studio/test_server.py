"""The server: what it answers, that answers do not depend on each other, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from tiny_runs import HERE, opened, wait

from isthmus.data.pictures.grid import picture_address
from isthmus.errors import IsthmusError
from isthmus.explore.walks import decode_as, losses_under
from isthmus.studio import limits
from isthmus.studio.server import make
from isthmus.studio.space import Space


def asked(client, address: str, **body):
    response = client.post(f"/api/{address}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def numbers(response) -> np.ndarray:
    assert response.headers["content-type"] == "application/octet-stream"
    return np.frombuffer(response.content, "<f4")


def test_the_run_is_described(text):
    client, space = text
    got = client.get("/api/run").json()
    assert got["kind"] == "text"
    assert got["corpus"] == {"source": space.data, "count": 90, "labelled": True}
    assert got["can"]["space"]
    assert not got["can"]["control"]
    assert got["path"] == space.run
    assert got["command"] == f"isthmus studio {space.run} --data {space.data}"
    assert [each["dimension"] for each in got["dimensions"]] == [1, 0, 2]  # by KL
    means = space.map.mean.mean(0)
    assert [d["mean"] for d in got["dimensions"]] == pytest.approx(means[[1, 0, 2]].tolist())
    assert set(got["examples"]) <= set(space.corpus.texts)


def test_the_map_is_given_as_numbers(text):
    client, space = text
    got = client.get("/api/map").json()
    assert got["count"] == 90
    assert got["projections"]["pca"]["state"] == "ready"
    points = numbers(client.get("/api/map/points?projection=pca")).reshape(90, 2)
    assert (points == space.map.points("pca")).all()
    for colour in got["colours"]:
        values = numbers(client.get(f"/api/map/colour?by={colour['name']}"))
        assert (values == space.map.colour(colour["name"])).all()
        assert colour["low"] <= values.min() <= values.max() <= colour["high"]


def test_tsne_starts_on_request(runs):
    space = Space(runs["text"], runs["corpus"])
    with opened(space) as client:
        assert client.get("/api/map/points?projection=tsne").status_code == 400
        assert client.get("/api/map").json()["projections"]["tsne"]["state"] == "none"
        assert client.post("/api/map/tsne", json={}).status_code == 202
        wait(lambda: client.get("/api/map").json()["projections"]["tsne"]["state"] == "ready")
        points = numbers(client.get("/api/map/points?projection=tsne")).reshape(90, 2)
        [item] = asked(client, "decode", place=points[3].tolist(), projection="tsne")["items"]
    twins = [row for row in range(90) if (points[row] == points[3]).all()]
    right = space.map.mean[twins].mean(0)
    np.testing.assert_allclose(item["z"], right, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(item["places"]["tsne"], points[3], atol=1e-4)


def test_texts_are_found_and_described(text):
    client, space = text
    found = client.get("/api/find", params={"text": "A B", "limit": 3}).json()
    right = [row for row, each in enumerate(space.corpus.texts) if "a b" in each]
    assert found == {"count": len(right), "indices": right[:3]}
    got = client.get("/api/texts?indices=3,89").json()["texts"]
    assert [each["index"] for each in got] == [3, 89]
    for each in got:
        row = each["index"]
        assert each["text"] == space.corpus.texts[row]
        assert each["label"] == space.corpus.labels[row]
        assert each["kl"] == space.map.kl[row].item()
        assert each["cluster"] == space.map.clusters[row]


@pytest.mark.parametrize("name", ["text", "labels", "mixture"])
def test_the_figures_of_an_item_are_right(clients, name):
    client, space = clients(name)
    z = [[0.5, -1, 2], [3, 0, 0.25]]
    items = asked(client, "decode", z=z)["items"]
    latents = torch.tensor(z)
    texts = decode_as(space.model, latents, [])
    assert [item["text"] for item in items] == texts
    assert [item["z"] for item in items] == z
    prior = space.model.prior.log_prob(latents)
    assert [item["log_prior"] for item in items] == pytest.approx(prior.tolist())
    if name == "text":
        exact = [-0.5 * (sum(x * x for x in row) + 3 * math.log(2 * math.pi)) for row in z]
        assert [item["log_prior"] for item in items] == pytest.approx(exact)
    losses = losses_under(space.model, texts, latents)
    assert [item["reconstruction"] for item in items] == pytest.approx(losses.tolist())


def test_the_ends_of_a_walk_are_the_reconstructions(text):
    client, _ = text
    walk = asked(client, "walk", a="a b", b="c c b", steps=3)["items"]
    ends = asked(client, "encode", inputs=["a b", "c c b"])["items"]
    assert [walk[0]["z"], walk[-1]["z"]] == [end["z"] for end in ends]
    assert [item["position"] for item in walk] == [0, 0.25, 0.5, 0.75, 1]
    middle = asked(client, "walk", a="a b", b="c c b", position=0.5)["items"][0]
    assert middle["z"] == pytest.approx(walk[2]["z"])


@pytest.mark.parametrize("name", ["text", "grid"])
def test_encoding_locates_an_input(clients, name):
    client, space = clients(name)
    answer = asked(client, "encode", inputs=[space.corpus.texts[7]])
    place = space.map.points("pca")[7]
    assert answer["places"]["pca"][0] == pytest.approx(place.tolist(), abs=1e-4)
    assert answer["items"][0]["kl"] == pytest.approx(space.map.kl[7].item(), rel=1e-4)
    loss = space.map.reconstruction[7].item()
    assert answer["items"][0]["input_nats"] == pytest.approx(loss, rel=1e-4)


def test_a_text_is_its_own_neighbour(text):
    client, space = text
    found = asked(client, "neighbours", input=space.corpus.texts[11], count=64)["neighbours"]
    assert found[0]["distance"] == pytest.approx(0, abs=1e-5)
    assert found[0]["text"] == space.corpus.texts[11]
    distances = (space.map.mean - space.map.mean[11]).norm(dim=1).sort().values[:64]
    assert [each["distance"] for each in found] == pytest.approx(distances.tolist(), abs=1e-4)
    assert len({each["index"] for each in found}) == 64


@pytest.mark.parametrize("name", ["codes", "labels"])
def test_texts_under_a_code_with_their_probability(clients, name):
    client, space = clients(name)
    answer = asked(client, "generate", code="up", count=2, max_new_tokens=5)
    assert answer["log_probability_of"] == "log p(text | up)"
    from isthmus.evaluation.attribution import log_likelihoods

    texts = [each["text"] for each in answer["texts"]]
    place = space.model.config.label_names.index("up")
    right = log_likelihoods(space.model, space.model.codec.prepare(texts), places=[place])[:, 0]
    got = [each["log_probability"] for each in answer["texts"]]
    assert got == pytest.approx(right.tolist())


def test_pictures_come_as_addresses(clients):
    client, space = clients("picture")
    got = client.get("/api/run").json()
    assert (got["kind"], got["corpus"]["source"]) == ("picture", "digits/test")
    [item] = asked(client, "decode", z=[[0.5, 0, -1]])["items"]
    content = base64.b64decode(item["picture"].partition(",")[2])
    right = space.model.decode(torch.tensor([[0.5, 0, -1]]))[0]
    assert (np.asarray(Image.open(io.BytesIO(content))) == right[0]).all()
    own = picture_address(space.corpus.pictures[4])
    one, other = asked(client, "encode", inputs=[own, {"index": 4}])["items"]
    assert one["z"] == other["z"]
    assert client.get("/api/texts?indices=4").json()["texts"][0]["picture"] == own
    large = picture_address(np.zeros((3, 40, 30), np.uint8))
    assert asked(client, "walk", a=own, b=large, steps=0)["items"]
    wrong = client.post("/api/decode", json={"z": [[0, 0, 0]], "decoding": {"beams": 2}})
    assert wrong.status_code == 400
    assert "pictures" in wrong.json()["error"]


def test_runs_without_a_latent_say_so(clients):
    client, space = clients("language")
    assert space.map is None
    assert not client.get("/api/run").json()["can"]["space"]
    for address, body in (
        ("walk", {"a": "a", "b": "b"}),
        ("decode", {"z": [[0, 0, 0]]}),
        ("encode", {"inputs": ["a"]}),
        ("sample", {}),
        ("dimensions", {"input": "a"}),
    ):
        response = client.post(f"/api/{address}", json=body)
        assert response.status_code == 400
        assert "latent vector" in response.json()["error"]
    assert client.get("/api/map").status_code == 400
    assert len(asked(client, "generate", count=2)["texts"]) == 2


def test_a_run_without_a_corpus(runs):
    with opened(Space(runs["text"])) as client:
        assert client.get("/api/run").json()["corpus"] is None
        item = asked(client, "walk", a="a", b="b", steps=0)["items"][0]
        assert (item["distance"], item["crowd"], item["neighbour"]) == (None, None, None)
        for response in (
            client.get("/api/map"),
            client.get("/api/find?text=a"),
            client.post("/api/neighbours", json={"input": "a"}),
        ):
            assert response.status_code == 400
            assert "--data FILE" in response.json()["error"]


def test_many_at_once_get_the_answers_of_one_alone(text):
    client, _ = text
    requests, short = [], {"max_new_tokens": 4}
    for n in range(5):
        sampled = {**short, "sample": True, "seed": n}
        requests += [
            ("walk", {"a": "a b", "b": "c " * (n % 5 + 1), "steps": n % 4, "decoding": short}),
            ("decode", {"z": [[n / 10, 0, 1]], "decoding": sampled}),
            ("sample", {"count": 2, "seed": n, "decoding": sampled}),
            ("encode", {"inputs": ["a " * (n % 7 + 1)], "decoding": short}),
            ("neighbours", {"input": "b a", "count": n % 6 + 1}),
        ]
    alone = [asked(client, address, **body) for address, body in requests]
    order = random.Random(0).sample(list(range(25)) * 8, 200)
    with ThreadPoolExecutor(200) as pool:
        one = [pool.submit(asked, client, requests[n][0], **requests[n][1]) for n in order]
        together = [each.result() for each in one]
    assert together == [alone[n] for n in order]


def test_nothing_of_a_request_stays(text, monkeypatch):
    """Of 150 requests fewer objects stay than one of each."""
    monkeypatch.setattr("isthmus.studio.jobs.REMEMBERED", 10)
    client, _ = text
    short = {"max_new_tokens": 2}

    def objects(requests: int) -> int:
        for n in range(requests):
            asked(client, "walk", a="a b", b="c", position=n / requests, decoding=short)
            asked(client, "neighbours", input="a " * (n % 5 + 1), count=3)
            client.post("/api/decode", json={"z": [[0, 0]]})
        gc.collect()
        return len(gc.get_objects())

    before = objects(20)
    assert objects(50) - before < 150


@pytest.fixture
def slow(runs, monkeypatch):
    """A client whose decoder waits at each step until it is let go."""
    space = Space(runs["text"])
    go, steps = threading.Event(), []

    def wait_here(*_):
        steps.append(1)
        go.wait(0.02)

    space.model.decoder.stack.register_forward_pre_hook(wait_here)
    with opened(space) as client:
        yield client, go, steps
        go.set()


def test_progress_and_cancel(slow):
    client, _go, steps = slow
    body = {"z": [[0, 0, 1]], "decoding": {"max_new_tokens": 128, "penalty": 0.01}}
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(client.post, "/api/decode", json=body, headers={"X-Job": "one"})
        wait(lambda: len(steps) > 2)
        got = client.get("/api/jobs/one").json()
        assert got["state"] == "running"
        assert 2 <= got["done"] < got["total"] == 128
        waiting = pool.submit(client.post, "/api/decode", json=body, headers={"X-Job": "two"})
        wait(lambda: client.get("/api/jobs/two").status_code == 200)
        assert client.get("/api/jobs/two").json()["position"] == 1
        taken = client.post("/api/decode", json=body, headers={"X-Job": "one"})
        assert taken.status_code == 409
        assert client.delete("/api/jobs/two").status_code == 200
        assert client.delete("/api/jobs/one").status_code == 200
        for response in (running.result(5), waiting.result(5)):
            assert response.status_code == 409
            assert response.json() == {"error": "cancelled"}
    assert client.get("/api/jobs/one").json()["state"] == "cancelled"
    assert client.delete("/api/jobs/one").status_code == 404
    assert client.get("/api/jobs/three").status_code == 404


def test_a_client_that_goes_away_is_cancelled(slow):
    client, _go, steps = slow
    body = {"z": [[0, 0, 1]], "decoding": {"max_new_tokens": 128, "penalty": 0.01}}
    messages = [{"type": "http.request", "body": json.dumps(body).encode()}]
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = {"host": "localhost", "content-type": "application/json", "x-job": "lost"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/decode",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 409
    assert 0 < len(steps) < 100
    assert client.get("/api/jobs/lost").json()["state"] == "cancelled"


def test_a_full_queue_asks_for_patience(slow, monkeypatch):
    client, go, steps = slow
    monkeypatch.setattr("isthmus.studio.jobs.QUEUE", 1)
    body = {"z": [[0, 0, 1]]}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/api/decode", json=body)
        wait(lambda: len(steps) > 0)
        second = pool.submit(client.post, "/api/decode", json=body, headers={"X-Job": "two"})
        wait(lambda: client.get("/api/jobs/two").status_code == 200)
        third = client.post("/api/decode", json=body)
        assert third.status_code == 503
        assert third.headers["retry-after"] == "5"
        go.set()
        assert first.result(20).status_code == second.result(20).status_code == 200


def test_out_of_memory_is_reported_in_one_line(runs, monkeypatch):
    space = Space(runs["text"])

    def fails(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with opened(space) as client:
        monkeypatch.setattr(space.model, "decode", fails)
        response = client.post("/api/decode", json={"z": [[0, 0, 0]]})
        assert response.status_code == 503
        assert "out of memory" in response.json()["error"]


def test_an_unexpected_error_is_reported_and_the_server_lives(runs, monkeypatch):
    space = Space(runs["text"])

    def fails(*_, **__):
        raise RuntimeError("a secret path")

    app = make(space)
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        monkeypatch.setattr(space.model, "decode", fails)
        response = client.post("/api/decode", json={"z": [[0, 0, 0]]})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
        monkeypatch.undo()
        assert asked(client, "decode", z=[[0, 0, 0]])


def test_a_missing_run_is_reported_in_one_line(tmp_path, runs):
    with pytest.raises(IsthmusError, match="no such run directory"):
        Space(str(tmp_path / "none"))
    with pytest.raises(IsthmusError, match="does not exist"):
        Space(runs["text"], str(tmp_path / "none.txt"))


def test_the_corpus_is_bounded(runs, monkeypatch):
    monkeypatch.setattr(limits, "CORPUS", 10)
    space = Space(runs["text"], runs["corpus"])
    assert len(space.corpus) == 10
    assert json.dumps(space.summary())
