"""Which kind of data a model, a run, a recipe and a record are about."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from isthmus.data import kinds
from isthmus.evaluation.metrics import MEASURES
from isthmus.runs.bundle import SYSTEMS
from isthmus.settings import load_recipe, recipe_names
from tiny import EXAMPLES, system

MODEL_TYPES = {
    "isthmus-optimus": kinds.TEXT,
    "isthmus-language": kinds.TEXT,
    "isthmus-picture": kinds.PICTURE,
    "isthmus-joint": kinds.JOINT,
}


def test_every_kind_has_its_line_in_every_table():
    assert set(kinds.KINDS) == set(MEASURES) == set(EXAMPLES) == set(MODEL_TYPES.values())
    assert set(MODEL_TYPES) == set(SYSTEMS)
    assert len({kind.unit for kind in kinds.KINDS}) == len(kinds.KINDS)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_run_is_of_the_kind_that_its_configuration_says(model_type, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert kinds.of_run(tmp_path) is MODEL_TYPES[model_type]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_type": 3}'])
def test_a_damaged_run_is_reported_when_it_is_loaded(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    assert kinds.of_run(tmp_path) is kinds.of_run(tmp_path / "nowhere") is kinds.TEXT


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_of_the_kind_that_its_name_says(name):
    expected = kinds.PICTURE if name.startswith("picture") else kinds.TEXT
    expected = kinds.JOINT if name == "doors" else expected
    assert kinds.of_settings(load_recipe(name)) is expected


@pytest.mark.parametrize("name", ["codes", "picture", "joint"])
def test_members_of_a_model(name):
    model = system(name)
    assert [member.kind for member in model.members.values()] == {
        "codes": [kinds.TEXT],
        "picture": [kinds.PICTURE],
        "joint": [kinds.PICTURE, kinds.TEXT],
    }[name]
    assert (model.member(kinds.TEXT) is None) == (name == "picture")
    assert model.modalities == (("picture", "caption") if name == "joint" else ())


def test_every_kind_reads_its_splits():
    for name in ("demo", "picture-vae", "doors"):
        settings = load_recipe(name)
        small = replace(settings, data=replace(settings.data, limit=60))
        kind = kinds.of_settings(settings)
        splits = kind.read_splits("scenes", small)
        assert len(splits.train) == 60
        assert splits.train.kind is kind
        assert splits.report().count("\n") >= 2
