"""The public functions give what their parts give: a space from texts, walks, figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import isthmus
from isthmus.explore import walks
from tiny import TEXTS, system

LABELS = ["up", "down"] * 20
SMALL = {
    "model": {
        "latent_size": 3,
        "encoder": {"layers": 1, "hidden_size": 16, "heads": 2},
        "decoder": {"layers": 1, "hidden_size": 16, "heads": 2},
    },
    "data": {"tokenizer": "word", "vocabulary_size": 40},
    "train": {"steps": 3, "evaluations": 1},
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


def test_evaluate_measures_a_list_and_a_file_alike(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    space = system("gpt2-memory+embedding")
    options = {"samples": 3, "texts": 2, "seed": 1}
    first = isthmus.evaluate(space, TEXTS, **options)
    second = isthmus.evaluate(space, str(tmp_path / "texts.txt"), **options)
    assert first == second
    terms = space.terms(TEXTS).kl_total.double()
    assert first["kl"] == pytest.approx(terms.mean().item(), rel=1e-5)


def test_a_model_without_one_latent_vector_has_nothing_to_walk_in():
    for name in ("language", "grid"):
        with pytest.raises(isthmus.IsthmusError, match="expected one vector"):
            isthmus.interpolate(system(name), "a", "b")


def test_pictures_are_neighbours_too(tmp_path):
    space = system("picture")
    pictures = np.random.default_rng(0).integers(0, 256, (5, *space.shape), dtype=np.uint8)
    assert isthmus.neighbours(space, list(pictures), pictures[3], 1)[0].place == 3
