"""Pictures with captions in the studio: every item has both, each as if decoded alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_studio_code import asked, lines, performed, ran
from tiny_runs import joint_run, opened

from isthmus.data.captioned import Example
from isthmus.data.pictures.grid import picture_address
from isthmus.models.generation import Generation
from isthmus.studio.space import Space


@pytest.fixture(scope="module")
def opened_run(tmp_path_factory):
    """A client and the space of such a run; its corpus is 12 pictures of noise with captions."""
    space = Space(*map(str, joint_run(tmp_path_factory.mktemp("doors"))))
    with opened(space) as client:
        yield client, space


def test_what_it_is(opened_run):
    client, space = opened_run
    got = client.get("/api/run").json()
    assert got["kind"] == "joint"
    assert got["can"] == {
        "space": True,
        "sentences": False,
        "exchange": False,
        "control": False,
        "caption": True,
        "draw": True,
        "codebook": False,
        "optimise": False,
        "structures": False,
        "signs": False,
    }
    described = client.get("/api/texts?indices=3").json()["texts"][0]
    example = space.corpus.examples[3]
    assert described["text"] == example.caption
    assert described["picture"] == picture_address(example.picture)
    assert client.get("/api/find", params={"text": example.caption}).json()["indices"]


def test_both_parts_come_as_they_would_alone(opened_run):
    client, space = opened_run
    z = torch.tensor([[0.5, 0, -1], [1, 2, 0]])
    items = asked(client, "decode", z=z.tolist())["items"]
    captions = space.model.decode(z, Generation(part="caption"))
    pictures = space.model.decode(z, Generation(part="picture"))
    assert lines(items) == captions
    assert [item["picture"] for item in items] == [picture_address(one) for one in pictures]
    both = [Example(p, c) for p, c in zip(pictures, captions, strict=True)]
    examples = space.model.codec.prepare(both)
    losses = space.model.reconstruction(z.unsqueeze(0), examples.collate([0, 1]))[0]
    assert [item["reconstruction"] for item in items] == pytest.approx(losses.tolist())


def test_a_walk_from_a_picture_to_a_text(opened_run):
    client, space = opened_run
    own = picture_address(space.corpus.examples[0].picture)
    answer = asked(client, "walk", a=own, b="a b c", steps=2)
    assert len(answer["items"]) == 4
    [end] = asked(client, "encode", inputs=["a b c"])["items"]
    assert answer["items"][-1]["z"] == end["z"]
    texts = asked(client, "walk", a="c", b="a b c", steps=2)
    assert ran(texts["python"]).splitlines() == lines(texts["items"])
    shown = [line[6:] for line in performed(texts["command"]).splitlines()]
    assert shown == lines(texts["items"])


def test_an_example_of_the_corpus_is_the_same_in_its_script(opened_run):
    """Picture and caption together, which no command can read."""
    client, space = opened_run
    answer = asked(client, "encode", inputs=[{"index": 3}, "a b", {"index": 4}])
    mean = space.model.encode([space.corpus.examples[3]]).mean
    assert answer["items"][0]["z"] == pytest.approx(mean[0].tolist(), abs=1e-5)
    own = [line for line in ran(answer["python"]).splitlines() if line in lines(answer["items"])]
    assert own[:3] == lines(answer["items"])
    assert answer["command"] is None
    walk = asked(client, "walk", a={"index": 0}, b={"index": 1}, steps=2)
    assert ran(walk["python"]).splitlines() == lines(walk["items"])
    assert walk["command"] is None


def test_in_at_one_door_and_out_at_the_other(opened_run, tmp_path, monkeypatch):
    from PIL import Image

    client, space = opened_run
    monkeypatch.chdir(tmp_path)
    picture = space.corpus.examples[5].picture
    Image.fromarray(picture[0]).save("picture.png")
    got = asked(client, "caption", picture=picture_address(picture))
    z = space.model.encode([Example(picture=picture)]).mean
    assert lines(got["items"]) == space.model.decode(z, Generation(part="caption"))
    assert performed(got["command"]).splitlines() == lines(got["items"])
    assert ran(got["python"]).splitlines()[0] == lines(got["items"])[0]
    drawn = asked(client, "draw", text="a b")
    z = space.model.encode([Example(caption="a b")]).mean
    [right] = space.model.decode(z, Generation(part="picture"))
    assert drawn["items"][0]["picture"] == picture_address(right)
    ran(drawn["python"])
    shown = np.asarray(Image.open("pictures.png"))
    performed(drawn["command"])
    assert (np.asarray(Image.open("pictures.png")) == shown).all()


def test_what_is_no_picture_or_text(opened_run):
    client, _ = opened_run
    for address, body in (
        ("caption", {"picture": "a b"}),
        ("caption", {"picture": "data:image/png;base64,AAAA"}),
        ("draw", {"text": "\0"}),
        ("draw", {"text": ""}),
        ("generate", {"code": "up"}),
    ):
        assert client.post(f"/api/{address}", json=body).status_code == 400
