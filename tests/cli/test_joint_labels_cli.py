"""The verbs on a run of pictures, captions and labels, any of which an example may lack."""

import json
import shutil
from pathlib import Path
from shutil import copytree

import pytest
import torch
from test_doors_cli import COLOURS, RECIPE, painted

from isthmus.data import captioned
from isthmus.data.captioned import Example
from isthmus.runs.bundle import load, read_run


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    """Warm and cold colours in sub-folders, some next to them; captions for some, some alone."""
    path = tmp_path_factory.mktemp("gallery")
    lines = ["\ta red thing\twarm", "\ta blue thing\tcold", "\ta thing"]
    for number in range(60):
        colour = list(COLOURS)[number % 3]
        folder = "" if number % 6 == 1 else "warm/" if colour == "red" else "cold/"
        (path / folder).mkdir(exist_ok=True)
        painted(colour, number % 20).save(path / folder / f"{number:02}.png")
        if number % 5:
            lines.append(f"{folder}{number:02}.png\ta {colour} thing")
    (path / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WORDS = ["--model.labels", "given", "--objective.classification", "300", "--train.steps", "60"]


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    recipe = tmp_path_factory.mktemp("recipe") / "labelled.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return recipe


@pytest.fixture(scope="module")
def trained(isthmus, gallery, recipe_file, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "gallery"
    words = ["train", gallery, "--recipe", recipe_file, "--out", run, *WORDS]
    return run, isthmus(*words, "--data.labelled", "20")


@pytest.fixture(scope="module")
def run(trained) -> Path:
    assert trained[1].code == 0, trained[1].err
    return trained[0]


def test_what_lacks_which_part_is_read_from_a_folder(gallery):
    examples = captioned.read(str(gallery)).examples
    kinds = {tuple(part is not None for part in (e.picture, e.caption, e.label)) for e in examples}
    assert len(kinds) == 6  # all but a label alone and nothing at all
    assert sum(e.label is None for e in examples) == 11
    assert [e.label for e in examples[-3:]] == ["warm", "cold", None]


def test_training_reports_its_labels(trained):
    run, result = trained
    assert "with one of 2 labels" in result.err
    assert "20 with one of 2 labels" in result.err
    assert "labels predicted correctly from the picture" in result.out
    assert "labels predicted correctly from the picture" in (run / "README.md").read_text("utf-8")
    assert load(run).config.label_names == ("cold", "warm")
    assert read_run(run)["metrics"]["labels"] > 0


def test_evaluate_judges_the_labels_of_each_door(isthmus, run, gallery):
    words = ["--json", "--samples", "4", "--texts", "0"]
    metrics = json.loads(isthmus("evaluate", run, gallery, *words).out)
    assert metrics["labels"] == 52
    assert metrics["label_commonest"] == pytest.approx(31 / 52)
    for name in ("label", "label_from_picture", "label_from_caption", "label_from_prior"):
        assert {f"{name}_accuracy_se", f"{name}_nats_se"} <= metrics.keys()
        assert 0 < metrics[f"{name}_nats"] < 2
    assert metrics["label_from_picture_accuracy"] > 0.9
    shown = isthmus("evaluate", run, gallery, "--samples", "2", "--texts", "0").out
    assert "label_from_picture_accuracy" in shown


def test_classify_tells_pictures_and_texts(isthmus, run, gallery):
    result = isthmus("classify", run, gallery, "--json")
    assert result.code == 0, result.err
    records = [json.loads(line) for line in result.out.splitlines()]
    assert len(records) == 63
    examples = captioned.read(str(gallery)).examples
    p = load(run).classify(examples)
    found = [record["probabilities"]["warm"] for record in records]
    torch.testing.assert_close(torch.tensor(found), p[:, 1], atol=1e-5, rtol=1e-4)
    alone = isthmus("classify", run, "-", "--json", stdin=b"a red thing\n").out
    expected = load(run).classify([Example(caption="a red thing")])[0].max().item()
    assert json.loads(alone)["probability"] == pytest.approx(expected, abs=1e-5)


def test_a_corpus_whose_labels_are_all_there_is_judged(isthmus, run, gallery):
    result = isthmus("classify", run, gallery / "warm", "--limit", "5")
    assert "accuracy" not in result.err  # no sub-folders, so no labels
    file = gallery.parent / "labels.tsv"
    file.write_text("warm\ta red thing\ncold\ta blue thing\n", encoding="utf-8")
    texts = captioned.read(str(file))
    assert texts.labels == ["warm", "cold"]


def test_a_probe_asks_the_latents_alone(isthmus, run, gallery, tmp_path):
    for name in ("warm", "cold"):
        copytree(gallery / name, tmp_path / name)
    result = isthmus("probe", run, tmp_path, "--labels", "12", "--seeds", "2", "--json")
    assert result.code == 0, result.err
    rows = {row["features"]: row for row in map(json.loads, result.out.splitlines())}
    assert set(rows) == {"latent mean", "most frequent class"}
    assert rows["latent mean"]["accuracy"] > rows["most frequent class"]["accuracy"]


def test_the_other_verbs_work_as_without_labels(isthmus, run, gallery, tmp_path):
    picture, out = gallery / "warm" / "00.png", tmp_path / "x.png"
    for words in (
        ["caption", run, picture],
        ["draw", run, "a red thing", "--out", out],
        ["encode", run, gallery, "--out", tmp_path / "z.npz"],
        ["reconstruct", run, gallery, "--limit", "3", "--out", out],
        ["sample", run, "--count", "2"],
        ["interpolate", run, picture, "a blue thing", "--steps", "1"],
        ["neighbours", run, gallery, "a red thing", "--count", "2"],
        ["cluster", run, gallery, "--clusters", "2"],
    ):
        result = isthmus(*words)
        assert result.code == 0, (words, result.err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "RUN", "--label", "warm"], "its decoders do not read it"),
        (["attribute", "RUN", "DATA"], "label"),
        (["generate", "RUN", "--code", "warm"], "label"),
    ],
)
def test_what_a_given_label_cannot_do_gets_one_line(isthmus, run, gallery, words, message):
    places = {"RUN": run, "DATA": gallery}
    result = isthmus(*(places.get(word, word) for word in words))
    assert result.code != 0
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_finished_run_and_settings_that_do_not_fit_are_refused(
    isthmus, run, gallery, recipe_file, tmp_path
):
    words = ["train", gallery, "--recipe", recipe_file, *WORDS]
    again = isthmus(*words, "--data.labelled", "20", "--out", run, "--resume")
    assert "the run is finished" in again.err
    few = isthmus(*words, "--data.labelled", "1", "--out", tmp_path / "few")
    assert "expected at least one label for each of the 2 classes" in few.err
    without = isthmus(*words[:4], "--data.labelled", "5", "--out", tmp_path / "none")
    assert "nothing reads labels" in without.err
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (gallery / "cold").glob("*.png"):
        shutil.copy(file, flat)
    (flat / "captions.tsv").write_text("02.png\ta grey thing\n", encoding="utf-8")
    bare = isthmus("train", flat, "--recipe", recipe_file, *WORDS, "--out", tmp_path / "bare")
    assert "the examples have no labels" in bare.err
    for result in (again, few, without, bare):
        assert result.code == 1
        assert "Traceback" not in result.err


def test_a_run_goes_on_from_one_with_labels(isthmus, run, gallery, recipe_file, tmp_path):
    words = ["train", gallery, "--recipe", recipe_file, "--train.start-from", run]
    more = isthmus(*words, *WORDS, "--train.steps", "2", "--out", tmp_path / "more")
    assert more.code == 0, more.err
    other = isthmus(*words, "--train.steps", "2", "--out", tmp_path / "other")
    assert "has labels" in other.err
