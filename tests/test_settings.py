"""Recipes: they load, they build, and what is wrong in one is said in one line."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cli import main
from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.latent.posterior import POSTERIORS
from isthmus.latent.prior import PRIORS
from isthmus.models.build import build
from isthmus.settings import (
    KINDS,
    Settings,
    TrainSettings,
    change_kind,
    choices,
    from_dict,
    is_used,
    load_recipe,
    recipe_names,
    setting_names,
    to_toml,
    with_changes,
)
from tiny import LABELS, TEXTS

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 1, 9, 12), np.uint8)


def shrunk(recipe: Settings) -> Settings:
    """The recipe with small layers and fresh weights; all else stays."""
    small = {"source": "", "tuning": "full", "layers": 1, "hidden_size": 16, "heads": 2}
    changes = {
        "latent_size": 3,
        "encoder": small,
        "decoder": small | {"layers": 2},
        "picture": {"hidden_size": 6},
    }
    own = {name: value for name, value in changes.items() if hasattr(recipe.model, name)}
    return with_changes(recipe, {"model": own}, "test")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_a_model_that_trains(name):
    recipe = shrunk(load_recipe(name))
    labels = LABELS if recipe.model.labels == "given" else None
    data = PICTURES if recipe.model.kind == "picture-vae" else TEXTS
    if recipe.model.kind == "pictures-with-captions":
        data = [Example(PICTURES[place % len(PICTURES)], text) for place, text in enumerate(TEXTS)]
    model = build(recipe, data, labels)
    examples = model.codec.prepare(data, labels)
    batch = examples.collate(range(len(data)), noise_shape=model.latent_shape)
    output = model.train()(**batch)
    output.terms.negative_elbo.sum().backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).isfinite().all()
    assert len(norms) > 5


def test_recipes_that_design_and_readme_name_are_there():
    assert {"demo", "optimus"} <= set(recipe_names())


def test_building_is_a_function_of_the_seed():
    recipe = shrunk(load_recipe("demo"))
    first, again = build(recipe, TEXTS).state_dict(), build(recipe, TEXTS).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, seed=9))
    head = "encoder.head.weight"
    assert not torch.equal(build(other, TEXTS).state_dict()[head], first[head])


def refusal(text: str, tmp_path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(IsthmusError) as caught:
        load_recipe(str(path))
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[model]\nlatent_szie = 3", "unknown setting 'latent_szie'; did you mean latent_size?"),
        ("[modell]\nlatent_size = 3", "unknown setting 'modell'; did you mean model?"),
        ("[model.encoder]\npoolin = 'mean'", "did you mean pooling?"),
        ("[train]\nqqq = 3", "unknown setting 'qqq'; known: epochs, steps"),
        ("model = 3", "expected a table of settings, got 3"),
        ("[model]\nlatent_size = 'many'", "latent_size: got 'many', expected a whole number"),
        ("[model]\nlatent_size = 3.0", "latent_size: got 3.0, expected a whole number"),
        ("[model]\nlatent_size = true", "latent_size: got True, expected a whole number"),
        ("[model]\nprior = 'laplace'", "got 'laplace', expected one of standard, gaussian"),
        ("[model]\nlatent_size = 0", "model.latent_size must be ≥ 1, got 0"),
        ("[train]\nlearning_rate = nan", "train.learning_rate must be > 0, got nan"),
        ("[train]\nlearning_rate = '1'", "expected a number"),
        ("[data]\nword_dropout = 1.5", "data.word_dropout must be from 0 to 1, got 1.5"),
        ("[model", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_recipe(text, line, tmp_path):
    assert line in refusal(text, tmp_path)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(IsthmusError, match=r"got 'demmo', expected one of chunks, codebook, ctrl"):
        load_recipe("demmo")
    with pytest.raises(IsthmusError, match=r"absent.toml does not exist"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(IsthmusError, match="cannot be read"):
        load_recipe(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[model]\nkind = 'vae'",
            "model.kind: got 'vae', expected one of text-vae, language-model",
        ),
        ("[model]\nkind = ['a']", "model.kind: got ['a'], expected one of text-vae"),
        (
            "[model]\nkind = 'picture-vae'\nclusters = 3",
            "unknown setting 'clusters'; a picture-vae has no such setting; with model.kind "
            "text-vae there is one",
        ),
        (
            "[model.picture]\nlayers = 3",
            "unknown setting 'picture'; a text-vae has no such setting; with model.kind "
            "picture-vae or pictures-with-captions there is one",
        ),
        (
            "[model]\nkind = 'language-model'\n[data]\nmasking = 0.1",
            "unknown setting 'masking'; a language-model has no such setting",
        ),
        ("[model]\nlatent = 'none'", "'latent'; write model.kind \"language-model\" instead"),
        ("[model]\nlatent = 'gaussian'", "'latent'; leave it out: model.kind decides"),
        ("[model]\ncaptions = 'given'", 'write model.kind "pictures-with-captions" instead'),
        ("[model.picture]\nnetwork = 'mlp'", "a text-vae has no such setting"),
        (
            "[model]\nkind = 'picture-vae'\n[model.picture]\nnetwork = 'none'",
            "unknown value 'none' of 'network'; write model.kind \"text-vae\" instead",
        ),
    ],
)
def test_settings_of_another_kind_or_version_in_a_recipe(text, line, tmp_path):
    assert line in refusal(text, tmp_path)


FLAGS = {
    "--model.clusters 3": "a picture-vae has no such setting; with model.kind text-vae there is",
    "--data.masking=0.1": "a picture-vae has no such setting; with model.kind text-vae or",
    "--model.no-adversary": "a picture-vae has no such setting; with model.kind text-vae there is",
    "--objective.caption 2": "with model.kind pictures-with-captions there is one",
    "--model.latent none": 'write model.kind "language-model" instead',
    "--model.captions given": 'write model.kind "pictures-with-captions" instead',
    "--model.picture.network none": 'write model.kind "text-vae" instead',
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_of_another_kind_or_version(flag, capsys, tmp_path):
    words = ["train", "digits", "--recipe", "picture-vae", "--out", str(tmp_path / "run")]
    assert main([*words, *flag.split()]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"isthmus: {flag.partition('=')[0].partition(' ')[0]}: ")
    assert FLAGS[flag] in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_help_shows_the_settings_of_a_kind_and_those_changed_first(
    kind, width, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["train", "--help", "--recipe", "style", "--model.kind", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    flags = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    assert flags[:5] == ["--out", "--recipe", "--resume", "--report-to", "--model.kind"]
    assert "--train.learning-rate" in flags[:15]
    names = setting_names(kind)
    leaves = {n for n in names if "." in n and not any(o.startswith(f"{n}.") for o in names)}
    shown = {flag[2:].replace("-", "_") for flag in flags[4:]}
    assert {n for n in shown if ".options" not in n} == {n for n in leaves if ".opt" not in n}
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_another_kind_keeps_all_shared_settings(name, kind):
    recipe = load_recipe(name)
    changed = change_kind(recipe, kind)
    assert changed.model.kind == kind
    assert changed.data.limit == recipe.data.limit
    for field, value in dataclasses.asdict(recipe.train).items():
        kept = value if is_used(f"train.{field}", kind) else getattr(TrainSettings(), field)
        assert getattr(changed.train, field) == kept
    for ours, theirs in ((changed.model, recipe.model), (changed.data, recipe.data)):
        for field in {f.name for f in dataclasses.fields(ours)} - {"kind", "encoder"}:
            if hasattr(theirs, field):
                assert getattr(ours, field) == getattr(theirs, field)
    assert change_kind(recipe, recipe.model.kind) == recipe


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.fixed_dictionaries({}, optional={"latent_size": st.integers(1, 99)}),
            "data": st.fixed_dictionaries({}, optional={"word_dropout": st.floats(0, 1)}),
            "train": st.fixed_dictionaries({}, optional={"learning_rate": st.integers(1, 3)}),
        },
    )
)
def test_settings_survive_the_way_to_plain_values_and_back(values):
    settings = from_dict(Settings, values, "test")
    assert from_dict(Settings, dataclasses.asdict(settings), "test") == settings
    for group, given_values in values.items():
        for name, value in given_values.items():
            assert getattr(getattr(settings, group), name) == value


def test_settings_survive_the_way_to_a_recipe_and_back(tmp_path):
    odd = {"code_separator": 'a "b"\\c é'}
    recipes = [load_recipe(name) for name in recipe_names()]
    for settings in [*recipes, with_changes(load_recipe("style"), {"data": odd}, "test")]:
        (tmp_path / "again.toml").write_text(to_toml(settings), encoding="utf-8")
        assert load_recipe(str(tmp_path / "again.toml")) == settings


@pytest.mark.parametrize(
    ("kinds", "table", "left_out"),
    [
        (choices.PosteriorKind, POSTERIORS, ()),
        (choices.PriorKind, PRIORS, ()),
        (choices.ChosenPriorKind, PRIORS, ("codebook", "bits")),
        (choices.FittedPriorKind, ("best", *PRIORS), ("standard", "codebook", "bits")),
    ],
)
def test_kinds_are_the_keys_of_the_table_that_builds_them(kinds, table, left_out):
    assert get_args(kinds) == tuple(key for key in table if key not in left_out)


def test_kinds_are_read_without_importing_torch():
    program = "import isthmus.settings, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_a_table_that_is_missing_is_named():
    with pytest.raises(LookupError, match="no literal dictionary named PR"):
        choices.keys_of("isthmus.latent.prior", "PR")


@pytest.mark.parametrize("kind", ["language-model", "picture-vae", "pictures-with-captions"])
def test_a_family_is_refused_where_there_is_no_choice(kind):
    with pytest.raises(IsthmusError, match=r"unknown setting 'posterior'.*text-vae"):
        from_dict(Settings, {"model": {"kind": kind, "posterior": "full"}}, "here")
