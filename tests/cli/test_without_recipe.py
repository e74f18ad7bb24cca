"""``isthmus train FILE`` without a recipe: it chooses, says so, and writes the choice down."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForSeq2SeqLM

from isthmus import load as isthmus_load
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import make_splits
from isthmus.data.kinds import JOINT, PICTURE, TEXT, of_data
from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.training.defaults import without_recipe
from tiny import TEXTS, make


def test_it_says_what_it_chose_and_flags_change_it(isthmus, corpus, tmp_path):
    flags = ["--train.steps", "2", "--model.latent-size", "5", "--data.word-dropout=0.2"]
    more = ["--model.encoder.options.initializer-range", "0.3", "--model.no-adversary"]
    run = tmp_path / "run"
    trained = isthmus("train", corpus, "--out", run, *flags, *more, "--minutes", "0.5")
    assert trained.code == 0, trained.err
    chosen = [line for line in trained.err.splitlines() if line.startswith("chosen: ")]
    assert len(chosen) == 3
    assert " of 5 numbers;" in chosen[1]
    assert "2 steps, at most 0.5 minutes" in chosen[2]
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["model"]["latent_size"] == 5
    assert settings["model"]["encoder"]["options"]["initializer_range"] == 0.3
    assert settings["data"]["word_dropout"] == 0.2
    assert settings["objective"]["schedule"] == "constant"  # chosen
    assert f"width {settings['model']['decoder']['hidden_size']}," in chosen[2]
    [fitted] = [line for line in trained.err.splitlines() if line.startswith("prior: ")]
    prior = isthmus_load(run).config.prior
    assert fitted.startswith(f"prior: {prior}, ")
    record = json.loads((run / "run.json").read_text())
    assert record["metrics"]["prior"] == record["fitted_prior"]["kind"] == prior != "standard"
    of_all, alone = trained.out.split("the summary alone: likelihood\n")
    assert of_all.startswith("all latents: what goes in comes back\n")
    assert record["metrics"]["summary_ppl_word"] > 1
    assert "mutual information" in alone
    assert "mutual information" not in of_all
    assert "perplexity" not in of_all
    again = isthmus("evaluate", run, corpus, "--subset", "8", "--samples", "2")
    assert again.code == 0, again.err
    of_all, alone = again.out.split("the summary alone: likelihood")
    assert "bits_per_character" in alone
    assert "bits_per_character" not in of_all
    asked = json.loads((run / "settings.json").read_text())["settings"]
    assert (asked["train"]["minutes"], asked["train"]["steps"]) == (0.5, 2)


def test_a_resumed_run_keeps_its_choice(isthmus, corpus, tmp_path):
    def read(settings):
        return make_splits(TextCorpus(["a b", "b c a"] * 9, None, "test"), lambda name: None)

    first, _ = without_recipe(TEXT, read, {"model": {"latent_size": 9}}, lambda line: None)
    record = {"settings": {"model": {"latent_size": 11}, "train": {"minutes": 4.0}}}
    (tmp_path / "settings.json").write_text(json.dumps(record))
    lines = []
    changes = {"train": {"clip": 2.0}}
    again, _ = without_recipe(TEXT, read, changes, lines.append, former=tmp_path)
    assert first.model.latent_size == 9
    assert first.train.minutes == 10
    assert (again.model.latent_size, again.train.minutes, again.train.clip) == (11, 4, 2)
    assert lines == []


@pytest.fixture
def pictures(tmp_path):
    """Places with data of every kind."""
    arrays = {"images": np.zeros((4, 5, 5), np.uint8)}
    np.savez(tmp_path / "alone.npz", **arrays)
    np.savez(tmp_path / "named.npz", **arrays, captions=np.array(["a"] * 4))
    for name in ("pictures", "captioned", "mixed", "texts"):
        (tmp_path / name / "train").mkdir(parents=True)
        if name != "texts":
            Image.fromarray(arrays["images"][0]).save(tmp_path / name / "train" / "one.png")
    (tmp_path / "captioned" / "train" / "captions.tsv").write_text("one.png\ta square\n")
    for name in ("mixed", "texts"):
        (tmp_path / name / "valid.txt").write_text("a\nb\n")
    (tmp_path / "lines.txt").write_text("a\nb\n")
    return tmp_path


def test_data_show_of_which_kind_they_are(pictures):
    kinds = {
        PICTURE: ["alone.npz", "pictures", "pictures/train/one.png"],
        JOINT: ["named.npz", "captioned"],
        TEXT: ["mixed", "texts", "lines.txt", "absent"],
    }
    for kind, places in kinds.items():
        for place in places:
            assert of_data(str(pictures / place)) is kind, place
    assert of_data("digits") is PICTURE
    assert of_data("scenes") is TEXT


def test_pictures_get_the_recipe_for_them():
    seen, lines = [], []
    changes = {"train": {"minutes": 2.0}}
    settings, _ = without_recipe(PICTURE, seen.append, changes, lines.append)
    assert settings.model.kind == "picture-vae"
    assert settings.train.minutes == 2
    assert seen == [settings]
    [line] = lines
    assert line.startswith("chosen: the recipe picture-vae-conv for pictures")
    other = {"model": {"kind": "pictures-with-captions"}}
    assert without_recipe(TEXT, seen.append, other, lines.append)[0].model.kind == (
        "pictures-with-captions"
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny decoder and a tiny encoder–decoder, as transformers saves them."""
    base = tmp_path_factory.mktemp("stock")
    for architecture in ("gpt2", "bart"):
        model = make(architecture, "embedding")
        stock = model.decoder.model
        if architecture == "bart":
            stock = AutoModelForSeq2SeqLM.from_config(stock.config)  # with its encoder
        stock.save_pretrained(base / architecture)
        model.codec.decoder_tokenizer.save_pretrained(base / architecture)
    return base


def read_texts(settings):
    return make_splits(TextCorpus([*TEXTS] * 9, None, "test"), lambda name: None)


@pytest.mark.parametrize(
    ("decoder", "encoder", "recipe", "expected"),
    [
        ("gpt2", "", "optimus-tiny", ("gpt2", "output", "frozen")),
        ("bart", "", "t5-vae", ("bart", "cross-attention", "full")),
        ("gpt2", "bart", "optimus-tiny", ("bart", "output", "frozen")),
        ("", "gpt2", "", ("gpt2", "memory+embedding", "frozen")),
    ],
)
def test_the_choice_is_made_around_a_pretrained_model(
    folders, monkeypatch, decoder, encoder, recipe, expected
):
    """Without MiniLM, which is not installed here, a decoder encodes as well."""
    monkeypatch.setattr("isthmus.training.pretrained.find_spec", lambda _: None)
    given = {"decoder": decoder, "encoder": encoder}
    sources = {name: {"source": str(folders / part)} for name, part in given.items() if part}
    lines = []
    settings, splits = without_recipe(TEXT, read_texts, {"model": sources}, lines.append)
    model = settings.model
    place = folders / expected[0]
    assert (model.encoder.source, model.bridge, model.encoder.tuning) == (
        str(place),
        *expected[1:],
    )
    assert model.decoder.source == (str(folders / decoder) if decoder else "")
    assert settings.train.minutes == 10
    assert str(place) in lines[-1]
    assert recipe in lines[-1]
    build(settings, splits.train.texts, loaded=True)  # and nothing in it is refused


def test_a_source_is_refused_before_the_data_are_read(isthmus, folders, tmp_path):
    def read(settings):
        raise AssertionError("the data are read")

    for role in ("encoder", "decoder"):
        changes = {"model": {role: {"source": str(folders / "absent")}}}
        with pytest.raises(IsthmusError, match=f"absent: no such .* --model.{role}.source"):
            without_recipe(TEXT, read, changes, print)
    absent = ("train", tmp_path / "no.txt", "--out", tmp_path / "run", "--recipe", "optimus-tiny")
    refused = isthmus(*absent, "--model.decoder.source", tmp_path / "gone")
    assert refused.code == 1
    assert f"{tmp_path / 'gone'}: no such file or folder" in refused.err
    unknown = shutil.copytree(folders / "gpt2", tmp_path / "unknown") / "config.json"
    unknown.write_text(unknown.read_text().replace('"gpt2"', '"foonet"'))
    refused = isthmus(*absent, "--model.decoder.source", unknown.parent)
    assert "got a model of type foonet, which transformers" in refused.err
    assert refused.err.endswith("docs/models.md lists the types that work\n")
