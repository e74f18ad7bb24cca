"""The Python and the command of an answer reproduce it: they are run here."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import opened, wait

from isthmus.cli import main
from isthmus.data import corpus
from isthmus.data.pictures.grid import picture_address
from isthmus.models.generation import Generation
from isthmus.studio.code import decoding_flags
from isthmus.studio.space import Space

SAMPLED = {"sample": True, "temperature": 1.3, "top_k": 4, "seed": 5, "max_new_tokens": 9}
HARD = {"penalty": 1.4, "penalty_mode": "additive", "beams": 2}
WALK = {"a": "a b c", "b": "c 'b' \"c\"", "steps": 3}
TERMS = [{"input": text, "weight": w} for text, w in (("a b", 1), ("c", -1), ("b b", 1))]
SUM = [{"input": "a b", "weight": 0.5}, {"input": "c c", "weight": 0.7}]


def ran(python: str) -> str:
    """What a program prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(python, "shown", "exec"), {})
    return out.getvalue()


def performed(command: str) -> str:
    """What a shell line prints; a real shell runs what is before a pipe."""
    before, _, line = command.rpartition(" | ")
    given = subprocess.run(["bash", "-c", before], capture_output=True, check=True).stdout
    out, err, keyboard = io.StringIO(), io.StringIO(), sys.stdin
    words = shlex.split(line)
    assert words[0] == "isthmus"
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            assert main(words[1:]) == 0, err.getvalue()
    finally:
        sys.stdin = keyboard
    return out.getvalue()


def lines(items) -> list[str]:
    return [item["text"] for item in items]


def asked(client, address: str, **body):
    response = client.post(f"/api/{address}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("name", "decoding", "path"),
    [
        ("text", {}, "slerp"),
        ("labels", SAMPLED, "lerp"),
        ("grid", HARD, "slerp"),
        ("summary", {}, "lerp"),
    ],
)
def test_a_walk(clients, name, decoding, path):
    answer = asked(clients(name)[0], "walk", **WALK, path=path, decoding=decoding)
    assert len(answer["items"]) == 5
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    shown = performed(answer["command"]).splitlines()
    assert shown == [f"{i['position']:.2f}  {i['text']}" for i in answer["items"]]


@pytest.mark.parametrize(
    ("name", "decoding"), [("text", {}), ("labels", {}), ("grid", HARD), ("summary", {})]
)
def test_a_walk_by_sentences(clients, name, decoding):
    client, space = clients(name)
    assert space.can()["sentences"]
    ends = {"a": "a b c. c! b a", "b": "c b."}
    answer = asked(client, "walk", **ends, path="sentences", decoding=decoding)
    assert [item["position"] for item in answer["items"]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    shown = performed(answer["command"]).splitlines()
    assert shown == [f"{i['position']:.2f}  {i['text']}" for i in answer["items"]]
    inputs = ["a b c.", "c!", "b a", "c b."]
    own = lines(asked(client, "encode", inputs=inputs, decoding=decoding)["items"])
    old, new = [" ".join(text.split()) for text in own[:3]], [" ".join(own[3].split())]
    assert lines(answer["items"]) == [" ".join(new[:step] + old[step:]) for step in range(4)]


@pytest.mark.parametrize("name", ["grid", "labels", "summary"])
def test_one_place_of_a_walk(clients, name):
    answer = asked(clients(name)[0], "walk", a="a b c", b="c", position=0.7, decoding=SAMPLED)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    assert answer["command"] is None


@pytest.mark.parametrize("name", ["text", "labels", "grid"])
def test_latents(clients, name):
    client, space = clients(name)
    place = asked(client, "decode", place=[0.3, -0.2], decoding=SAMPLED)
    assert ran(place["python"]).splitlines() == lines(place["items"])
    assert performed(place["command"]).splitlines() == lines(place["items"])
    count = space.model.config.latents
    several = asked(client, "decode", z=[[0.5, 1, -1] * count, [0, 0, 2.25] * count])
    assert ran(several["python"]).splitlines() == lines(several["items"])
    again = asked(client, "decode", z=[place["items"][0]["z"]], decoding=SAMPLED)
    assert again["items"] == place["items"]


@pytest.mark.parametrize(
    ("name", "decoding"), [("grid", SAMPLED), ("labels", {}), ("summary", {})]
)
def test_there_and_back(clients, name, decoding):
    inputs = ["a b c", "c 'b' $HOME b", "a"]
    answer = asked(clients(name)[0], "encode", inputs=inputs, decoding=decoding)
    *texts, losses = ran(answer["python"]).splitlines()
    assert texts == lines(answer["items"])
    nats = [item["input_nats"] for item in answer["items"]]
    assert json.loads(losses) == nats
    shown = performed(answer["command"]).splitlines()
    assert shown[1::2] == [f"  → {text}" for text in texts]
    assert shown[::2] == inputs


@pytest.mark.parametrize(
    ("name", "weights"), [("text", (1, -1, 1)), ("labels", (-2, 2, 1)), ("grid", (1, 1.5, -1.5))]
)
def test_an_analogy_in_any_order(clients, name, weights):
    terms = [{**term, "weight": w} for term, w in zip(TERMS, weights, strict=True)]
    answer = asked(clients(name)[0], "arithmetic", terms=terms)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    assert performed(answer["command"]).splitlines() == lines(answer["items"])
    z = sum(w * np.array(p["z"]) for w, p in zip(weights, answer["parts"], strict=True))
    np.testing.assert_allclose(answer["items"][0]["z"], z, rtol=1e-4, atol=1e-4)


def test_an_exchange(clients):
    client, _ = clients("grid")
    assert client.get("/api/run").json()["can"]["exchange"]
    answer = asked(client, "exchange", a="a b c", b="c 'b'", decoding=SAMPLED)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    shown = performed(answer["command"]).splitlines()
    assert [line.partition("nats  ")[2] for line in shown] == lines(answer["items"])
    rises = [float(line.split()[1]) for line in shown]
    assert rises == pytest.approx([item["rise"] for item in answer["items"]], abs=0.006)
    z = torch.tensor([item["z"] for item in answer["items"]]).view(-1, 2, 3)
    assert torch.equal(z[1], torch.stack([z[3, 0], z[0, 1]]))
    assert torch.equal(z[2], torch.stack([z[0, 0], z[3, 1]]))
    other, _ = clients("text")
    assert not other.get("/api/run").json()["can"]["exchange"]
    response = other.post("/api/exchange", json={"a": "a", "b": "b"})
    assert response.status_code == 400
    assert "one latent for each example" in response.json()["error"]


def test_arithmetic_is_on_the_summary(clients):
    client, space = clients("summary")
    answer = asked(client, "arithmetic", terms=TERMS)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    assert performed(answer["command"]).splitlines() == lines(answer["items"])
    c, a, b = space.model.encode([TERMS[place]["input"] for place in (2, 1, 0)]).mean
    z = torch.tensor(answer["items"][0]["z"]).view(7, 4)
    moved, way = (z - c)[:2].flatten(), (b - a)[:2].flatten()
    assert torch.cosine_similarity(moved, way, dim=0) > 0.9999
    for place in range(2, 7):
        assert not z[place].any() or torch.equal(z[place], c[place])
    assert torch.tensor(answer["parts"][0]["z"]).view(7, 4)[2:].any()  # each comes back whole


def test_another_sum_is_of_summaries_with_hidden_details(clients):
    client, space = clients("summary")
    answer = asked(client, "arithmetic", terms=SUM)
    mean = space.model.encode([term["input"] for term in SUM]).mean[:, :2]
    about = 0.5 * mean[0] + 0.7 * mean[1]
    z = torch.tensor(answer["items"][0]["z"]).view(7, 4)
    torch.testing.assert_close(z[:2], about)
    assert not z[2:].any()
    assert lines(answer["items"]) == space.model.decode(about.unsqueeze(0))


def test_an_exchange_of_the_summary_and_of_each_detail(clients):
    client, space = clients("summary")
    answer = asked(client, "exchange", a="a", b="c b")
    assert [item["latents"] for item in answer["items"]] == [
        [],
        [0, 1],
        [2],
        [3],
        [*range(7)],
    ]
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    shown = performed(answer["command"]).splitlines()
    assert [line.split()[0] for line in shown] == ["none", "summary", "2", "3", "all"]
    b = space.model.encode(["c b"]).mean
    assert lines(answer["items"])[1] == space.model.decode(b[:, :2])[0]


def test_the_map_is_of_summaries(clients):
    client, space = clients("summary")
    about = space.model.encode(space.corpus.texts).mean[:, :2].flatten(1)
    torch.testing.assert_close(space.map.mean, about)
    assert space.map.mixture.sample(3).shape == (3, 2, 4)
    run = client.get("/api/run").json()
    assert len(run["dimensions"]) == 2 * 4
    place = asked(client, "decode", place=[0.3, -0.2])
    z = torch.tensor(place["items"][0]["z"]).view(7, 4)
    found = space.map.plane().places(z[None, :2])[0].tolist()
    assert found == pytest.approx([0.3, -0.2], abs=1e-5)
    assert not z[2:].any()
    density = space.model.prior.summary.log_prob(z[:2]).item()
    assert place["items"][0]["log_prior"] == pytest.approx(density, rel=1e-5)
    assert ran(place["python"]).splitlines() == lines(place["items"])


@pytest.mark.parametrize("name", ["text", "labels", "grid", "summary"])
def test_another_sum(clients, name):
    answer = asked(clients(name)[0], "arithmetic", terms=SUM)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    assert answer["command"] is None


@pytest.mark.parametrize(
    ("name", "offset"), [("text", 1.5), ("labels", -2.5), ("grid", 0.5), ("summary", 2)]
)
def test_one_dimension(clients, name, offset):
    answer = asked(clients(name)[0], "dimensions", input="a b c", offsets={"1": offset})
    three = lines([answer["opposite"], answer["base"], *answer["items"]])
    assert ran(answer["python"]).splitlines() == three
    shown = [line.partition("sd  ")[2] for line in performed(answer["command"]).splitlines()]
    assert shown == (three if offset > 0 else three[::-1])
    moved, base = np.array(answer["items"][0]["z"]), np.array(answer["base"]["z"])
    np.testing.assert_allclose((moved - base)[:3], [0, offset * 2.5, 0], atol=1e-5)
    assert (moved == base)[3:].all()


@pytest.mark.parametrize("name", ["text", "grid"])
def test_several_dimensions_of_a_latent(clients, name):
    client, space = clients(name)
    z = [1, 2, 3] * space.model.config.latents
    answer = asked(client, "dimensions", z=z, offsets={"0": 1, "2": -1})
    assert lines(answer["items"])[0] == ran(answer["python"]).splitlines()[2]
    np.testing.assert_allclose(answer["items"][0]["z"], [2.5, 2, -0.5, *z[3:]])


@pytest.mark.parametrize("name", ["text", "grid", "summary"])
def test_neighbours(clients, name):
    answer = asked(clients(name)[0], "neighbours", input="a b c", count=4)
    found = [(each["text"], each["distance"]) for each in answer["neighbours"]]
    shown = eval(ran(answer["python"]))
    assert [text for text, _ in shown] == [text for text, _ in found]
    assert [d for _, d in shown] == pytest.approx([d for _, d in found], abs=1e-4)
    shown = performed(answer["command"]).splitlines()
    assert [line.split("  ")[-1] for line in shown] == [text for text, _ in found]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("labels", "prior"),
        ("mixture", "prior"),
        ("grid", "prior"),
        ("labels", "aggregate"),
        ("grid", "aggregate"),
        ("summary", "prior"),
        ("summary", "aggregate"),
    ],
)
def test_samples(clients, name, source):
    body = {"count": 4, "seed": 3, "source": source, "decoding": {"sample": True}}
    answer = asked(clients(name)[0], "sample", **body)
    assert ran(answer["python"]).splitlines() == lines(answer["items"])
    if source == "prior":
        assert performed(answer["command"]).splitlines() == lines(answer["items"])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("codes", {"code": "up", "guidance": 1.5, "against": "down", "prompt": "a b"}),
        ("labels", {"mixture": {"up": 3, "down": 1}, "penalty": 1.2, "seed": 7}),
        ("labels", {"code": "down", "sample": False, "top_p": 1.0, "beams": 2}),
        ("codes", {}),
    ],
)
def test_texts_under_codes(clients, name, body):
    answer = asked(clients(name)[0], "generate", count=3, max_new_tokens=6, **body)
    texts = [each["text"] for each in answer["texts"]]
    assert ran(answer["python"]).splitlines() == texts
    assert performed(answer["command"]).splitlines() == texts


@pytest.mark.parametrize("name", ["codes", "labels"])
def test_the_code_of_a_text(clients, name):
    answer = asked(clients(name)[0], "attribute", text="a b c a")
    assert sum(answer["posterior"]) == pytest.approx(1)
    posterior = eval(ran(answer["python"]).splitlines()[0])
    assert posterior == pytest.approx(dict(zip(answer["codes"], answer["posterior"], strict=True)))
    record = json.loads(performed(answer["command"]))
    assert record["posterior"] == pytest.approx(posterior)
    assert record["tokens"] == [token["text"] for token in answer["tokens"]]
    assert "".join(record["tokens"]) == "a b c a"


def test_pictures(clients, tmp_path, monkeypatch):
    client, space = clients("picture")
    monkeypatch.chdir(tmp_path)
    ends = {"a": {"index": 0}, "b": {"index": 5}, "steps": 2}
    answer = asked(client, "walk", **ends)
    ran(answer["python"])
    shown = np.asarray(Image.open("pictures.png"))
    performed(answer["command"])
    assert (np.asarray(Image.open("pictures.png")) == shown).all()
    # A picture of one's own, as the script supposes it to be saved.
    address = picture_address(space.corpus.pictures[3])
    space_own = asked(client, "encode", inputs=[address, {"index": 3}])
    assert space_own["items"][0]["z"] == space_own["items"][1]["z"]
    Image.fromarray(space.corpus.pictures[3][0]).save("picture.png")
    ran(space_own["python"])


def test_an_input_that_no_command_can_read_has_no_command(text):
    assert asked(text[0], "walk", a="--a", b="c")["command"] is None
    assert asked(text[0], "encode", inputs=["a\nb"])["command"] is None


def test_the_run_that_comes_with_isthmus(runs, monkeypatch):
    few = corpus.read(runs["corpus"], limit=20)
    for module in ("space", "shipped"):
        monkeypatch.setattr(f"isthmus.studio.{module}.bundle_path", lambda: runs["labels"])
        monkeypatch.setattr(f"isthmus.studio.{module}.bundle_corpus", lambda: few)
    with opened(Space()) as client:
        assert client.get("/api/run").json()["command"] == "isthmus studio"
        answer = asked(client, "neighbours", input="a b c", count=2)
        shown = eval(ran(answer["python"]))
        assert [text for text, _ in shown] == [each["text"] for each in answer["neighbours"]]
        assert answer["command"] is None  # no verb reads this corpus
        walk = asked(client, "walk", **WALK)
        assert len(performed(walk["command"]).splitlines()) == 5


def test_the_map_of_tsne(text):
    client, _ = text
    answer = client.post("/api/map/tsne", json={})
    assert answer.status_code == 202
    wait(lambda: client.get("/api/map").json()["projections"]["tsne"]["state"] == "ready")
    points = np.frombuffer(client.get("/api/map/points?projection=tsne").content, "<f4")
    shown = np.array(json.loads(ran(answer.json()["python"])))
    # The corpus was encoded in other batches, and t-SNE enlarges rounding: alike, not equal.
    assert shown.shape == (90, 2)
    places = points.reshape(90, 2)
    apart = np.linalg.norm(shown - shown[:, None], axis=-1).ravel()
    again = np.linalg.norm(places - places[:, None], axis=-1).ravel()
    assert np.corrcoef(apart, again)[0, 1] > 0.5


def test_flags_are_those_of_the_verbs():
    from isthmus.commands.codes import NUCLEUS
    from isthmus.commands.writing import GREEDY

    assert decoding_flags(GREEDY.settings()) == []
    assert decoding_flags(NUCLEUS.settings(), nucleus=True) == []
    assert decoding_flags(Generation(sample=True, label="a b")) == ["--sample", "--label", "a b"]
