"""The verbs on a run of pictures: digits, from training to sheets of pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import pictures
from isthmus.explore.walks import interpolate
from isthmus.runs.bundle import load
from tiny import texts_of_npz

RECIPE = """
[model]
kind = "picture-vae"
latent_size = 4
[model.picture]
network = "mlp"
hidden_size = 16
layers = 1
[objective]
schedule = "constant"
[train]
epochs = 4
sentences_per_batch = 64
learning_rate = 1e-2
evaluations = 2
log_every = 10
"""


@pytest.fixture(scope="module")
def picture_recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "pictures.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained_pictures(isthmus, picture_recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    return run, isthmus("train", "digits", "--recipe", picture_recipe, "--out", run)


@pytest.fixture(scope="module")
def picture_run(trained_pictures) -> Path:
    return trained_pictures[0]


def sheet(path: Path, rows: int, columns: int) -> np.ndarray:
    """The 8×8 pictures of a sheet of digits, [rows columns 8 8]."""
    small = np.asarray(Image.open(path))[::8, ::8]
    assert small.shape == (2 + 10 * rows, 2 + 10 * columns)
    return np.array(
        [
            [small[2 + 10 * r : 10 + 10 * r, 2 + 10 * c : 10 + 10 * c] for c in range(columns)]
            for r in range(rows)
        ]
    )


def test_training_tells_its_data_and_ends_with_figures_of_pictures(trained_pictures):
    run, result = trained_pictures
    assert result.code == 0
    assert "digits/train: 1,397 pictures of 8×8, grey with 10 labels" in result.err
    assert "binary: sampled anew in every epoch" in result.err
    assert "bits per value" in result.out
    assert "sentence" not in result.out
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "1,397 pictures" in card
    assert "sentences " not in card


def test_evaluate_has_the_figures_of_texts_and_bits_per_dimension(isthmus, picture_run):
    result = isthmus("evaluate", picture_run, "digits", "--json", "--samples", "8")
    metrics = json.loads(result.out)
    assert metrics["pictures"] == 200
    assert metrics["latent_size"] == 4
    assert metrics["elbo"] == pytest.approx(-metrics["reconstruction"] - metrics["kl"])
    assert metrics["nll_iw"] < -metrics["elbo"]
    assert metrics["nll_iw"] < 64 * np.log(2)  # better than a coin a value
    bits = metrics["nll_iw"] / (64 * np.log(2))
    assert metrics["bits_per_dimension"] == pytest.approx(bits)
    ratio = metrics["bits_per_dimension_se"] / metrics["nll_iw_se"]
    assert ratio == pytest.approx(1 / (64 * np.log(2)))
    assert metrics["mutual_information_limit"] == pytest.approx(np.log(200))
    assert {"active_units", "swap_gap", "kl_per_dimension", "squared_error"} <= set(metrics)
    assert not {"sentences", "ppl_word", "bits_per_character", "legacy"} & set(metrics)
    table = isthmus("evaluate", picture_run, "digits", "--samples", "2", "--subset", "50")
    assert "50 pictures, nats per picture" in table.out


def test_reconstruct_puts_pictures_above_what_came_back(isthmus, picture_run, tmp_path):
    words = ["--limit", "20", "--out", tmp_path / "x.png", "--json"]
    result = isthmus("reconstruct", picture_run, "digits", *words)
    given = pictures.read("digits", limit=20).pictures
    model = load(picture_run)
    back = model.decode(model.encode(given).mean)
    rows = sheet(tmp_path / "x.png", 4, 16)
    assert (rows[0] == given[:16, 0]).all()
    assert (rows[1] == np.stack(back[:16])[:, 0]).all()
    assert (rows[2, :4] == given[16:, 0]).all()
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["picture"] for record in records] == [f"digits/test#{i}" for i in range(20)]
    terms = model.terms(given, places=range(len(given)))
    assert [record["reconstruction_nats"] for record in records] == pytest.approx(
        terms.reconstruction.tolist(), rel=1e-4
    )


def test_samples_are_set_by_the_seed(isthmus, picture_run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["--count", "5", "--seed", str(seed), "--out", tmp_path / f"{name}.png"]
        assert isthmus("sample", picture_run, *words).code == 0
    a, b, c = (sheet(tmp_path / f"{name}.png", 1, 5) for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_a_walk_of_pictures_is_the_walk_of_their_latents(isthmus, picture_run, tmp_path):
    ends = pictures.read("digits").pictures[[0, 3]]
    Image.fromarray(ends[0, 0]).save(tmp_path / "first.png")
    out = tmp_path / "walk.png"
    words = [tmp_path / "first.png", "digits#3", "--steps", "3", "--out", out]
    assert isthmus("interpolate", picture_run, *words).code == 0
    model = load(picture_run)
    walk = interpolate(*model.encode(ends).mean, 3)
    assert (sheet(out, 1, 5)[0] == np.stack(model.decode(walk))[:, 0]).all()


def test_the_nearest_picture_is_the_picture_itself(isthmus, picture_run, tmp_path):
    words = ["digits", "digits#7", "--count", "3", "--json", "--out", tmp_path / "n.png"]
    result = isthmus("neighbours", picture_run, *words)
    records = [json.loads(line) for line in result.out.splitlines()]
    assert records[0]["picture"] == "digits/test#7"
    assert records[0]["distance"] == pytest.approx(0, abs=1e-5)
    [row] = sheet(tmp_path / "n.png", 1, 4)
    assert (row[0] == row[1]).all()


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("traverse", ["digits#1", "--out"]),
        ("analogy", ["digits#1", "digits#2", "digits#3", "--out"]),
        ("cluster", ["digits", "--plot"]),
    ],
)
def test_other_walks_and_groups_are_drawn(isthmus, picture_run, tmp_path, verb, words):
    result = isthmus(verb, picture_run, *words, tmp_path / "x.png")
    assert result.code == 0
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 0


def test_latents_go_out_and_come_back(isthmus, picture_run, tmp_path):
    isthmus("encode", picture_run, "digits", "--out", tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as stored:
        assert texts_of_npz(stored, "picture")[3] == "digits/test#3"
        assert stored["mean"].shape == (200, 4)
    isthmus("decode", picture_run, tmp_path / "z.npz", "--out", tmp_path / "x.png")
    model = load(picture_run)
    back = model.decode(model.encode(pictures.read("digits").pictures[:16]).mean)
    assert (sheet(tmp_path / "x.png", 13, 16)[0] == np.stack(back)[:, 0]).all()


def test_a_probe_has_the_values_to_compete_with(isthmus, picture_run):
    words = ["--labels", "60", "--seeds", "2", "--json"]
    result = isthmus("probe", picture_run, "digits", *words)
    accuracy = {r["features"]: r["accuracy"] for r in map(json.loads, result.out.splitlines())}
    assert set(accuracy) == {"latent mean", "values", "most frequent class"}
    assert accuracy["values"] > accuracy["latent mean"] > accuracy["most frequent class"]


def test_a_prior_is_fitted_to_a_run_of_pictures(isthmus, picture_run, tmp_path):
    words = ["--kind", "vamp", "--components", "8", "--steps", "5", "--out", tmp_path / "run"]
    assert isthmus("prior", picture_run, "digits", *words).code == 0
    assert load(tmp_path / "run").config.prior == "vamp"


def test_a_folder_with_bad_pictures_is_measured_with_a_line_for_each(
    isthmus, picture_run, tmp_path
):
    for place, picture in enumerate(pictures.read("digits").pictures[:12, 0]):
        Image.fromarray(picture).save(tmp_path / f"{place:02}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "00.png").read_bytes()[:40])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "large.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    result = isthmus("evaluate", picture_run, tmp_path, "--json", "--samples", "2")
    assert result.code == 0
    assert json.loads(result.out)["pictures"] == 13
    for name in ("broken.png", "large.png", "colour.png"):
        assert sum(f"{name}: " in line for line in result.err.splitlines()) == 1


@pytest.fixture(scope="module")
def labelled_run(isthmus, picture_recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "labelled"
    words = ["--model.labels", "given", "--data.labelled", "300", "--train.epochs", "12"]
    words += ["--objective.classification", "100", "--train.keep", "last"]
    result = isthmus("train", "digits", "--recipe", picture_recipe, "--out", run, *words)
    assert result.code == 0, result.err
    return run, result


def test_classify_predicts_labels_of_pictures(isthmus, labelled_run):
    run, trained = labelled_run
    assert "pictures whose label is predicted correctly" in trained.out
    result = isthmus("classify", run, "digits", "--json")
    found, test = [json.loads(line) for line in result.out.splitlines()], pictures.read("digits")
    probabilities = load(run).classify(test.pictures)
    assert [row["picture"] for row in found] == test.names
    assert [row["label"] for row in found] == [str(p) for p in probabilities.argmax(-1).tolist()]
    right = sum(row["label"] == label for row, label in zip(found, test.labels, strict=True))
    assert right > 100  # of 200; ten classes
    assert f"accuracy: {right / 200:.4f} ± " in result.err
    assert result.err.splitlines()[-1].endswith("of 200 pictures")
    metrics = json.loads(isthmus("evaluate", run, "digits", "--json", "--samples", "2").out)
    assert metrics["label_accuracy"] == pytest.approx(right / 200)
    assert 0 < metrics["label_information"] < np.log(10)
    assert "label_leakage" not in metrics


def test_labels_of_an_npz_file_are_read(isthmus, labelled_run, picture_recipe, tmp_path):
    corpus = pictures.read("digits", split="train", limit=60)
    path = tmp_path / "own.npz"
    np.savez(path, train_x=corpus.pictures[:, 0], train_y=np.array(corpus.labels).astype(int))
    given = ["--model.labels", "given", "--train.epochs", "1"]
    words = ["train", path, "--recipe", picture_recipe, "--out", tmp_path / "run", *given]
    assert isthmus(*words).code == 0
    assert load(tmp_path / "run").config.labels == list("0123456789")
    np.savez(path, train_x=corpus.pictures[:, 0])
    bare = isthmus(*words[:5], tmp_path / "other", *given)
    assert "the pictures have no labels" in bare.err
    assert "an .npz file with train_y" in bare.err


def test_walks_through_a_run_with_labels_need_none(isthmus, labelled_run, tmp_path):
    """The decoder does not read them."""
    run, out = labelled_run[0], tmp_path / "x.png"
    assert isthmus("reconstruct", run, "digits", "--limit", "4", "--out", out).code == 0
    assert isthmus("interpolate", run, "digits#0", "digits#1", "--out", out).code == 0
    assert isthmus("sample", run, "--out", out).code == 0
    asked = isthmus("sample", run, "--label", "3", "--out", out)
    assert asked.code == 1
    assert "pictures have none" in asked.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "RUN"], "--out: pictures need the name of a .png file to go to"),
        (["sample", "RUN", "--out", "x.jpg"], "a .png file to go to, got x.jpg"),
        (["reconstruct", "RUN", "scenes", "--out", "OUT"], "pictures of 32×32, RGB, expected 8×8"),
        (["reconstruct", "RUN", "absent", "--out", "OUT"], "absent does not exist"),
        (["interpolate", "RUN", "digits#0", "digits#999", "--out", "OUT"], "has 200 pictures"),
        (["sample", "RUN", "--out", "OUT", "--sample", "--top-k", "3"], "choose among tokens"),
        (["classify", "RUN", "digits"], "has no labels"),
        (["train", "digits", "--recipe", "RECIPE", "--out", "NEW", "--model.bridge", "prefix"],
         "--model.bridge: a picture-vae has no such setting"),
        (["train", "digits", "--recipe", "RECIPE", "--out", "NEW", "--data.masking", "0.1"],
         "--data.masking: a picture-vae has no such setting"),
        (["train", "digits", "--recipe", "RECIPE", "--out", "NEW", "--model.clusters", "3"],
         "--model.clusters: a picture-vae has no such setting"),
        (["train", "digits", "--recipe", "RECIPE", "--out", "NEW", "--data.labelled", "50"],
         "nothing reads labels; add --model.labels given"),
        (["train", "digits", "--recipe", "RECIPE", "--out", "NEW", "--model.labels", "given",
          "--data.code-dropout", "0.1"], "--data.code-dropout: a picture-vae has no such setting"),
        (["train", "scenes", "--recipe", "demo", "--out", "NEW", "--train.start-from", "RUN",
          "--data.limit", "50"], "is not a run of texts"),
        (["train", "scenes", "--recipe", "RECIPE", "--out", "NEW", "--train.start-from", "RUN",
          "--data.limit", "50"], "got the shape [3, 32, 32], expected [1, 8, 8]"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_gets_one_line(
    isthmus, picture_run, picture_recipe, tmp_path, words, message
):
    place = {
        "RUN": picture_run,
        "OUT": tmp_path / "x.png",
        "NEW": tmp_path / "new",
        "RECIPE": picture_recipe,
    }
    result = isthmus(*[place.get(word, word) for word in words])
    assert result.code == 1
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("isthmus: ")
    assert message in last


def test_a_sheet_is_refused_for_a_run_of_texts(isthmus, run, tmp_path):
    result = isthmus("sample", run, "--out", tmp_path / "x.png")
    assert result.code == 1
    assert "--out: is for pictures" in result.err
