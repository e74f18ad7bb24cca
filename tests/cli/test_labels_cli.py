"""Labels from the command line: given in training, predicted, and required of new texts."""

import json

import pytest
import torch

import isthmus as package
from isthmus.data.corpus import read
from isthmus.explore.transfer import WAY, Change, label_means, least_change
from isthmus.explore.walks import decode_as, likely_labels
from isthmus.runs.bundle import read_run, save

A, B = "one small red ball", "two large blue boxes are here"


def ok(result):
    assert result.code == 0, result.err
    return result


def rows(result):
    return [json.loads(line) for line in ok(result).out.split("\n") if line]


@pytest.fixture(scope="module")
def words(recipe, corpus):
    return ["train", corpus, "--recipe", recipe, "--train.steps", "4"]


@pytest.fixture(scope="module")
def labelled(isthmus, words, corpus, tmp_path_factory):
    """A run with a few labels, made loud, so that z and y are both heard."""
    trained, run = (tmp_path_factory.mktemp("labels") / name for name in ("trained", "loud"))
    given = ["--model.labels", "given", "--data.labelled", "30"]
    said = ok(isthmus(*words, "--out", trained, *given))
    assert "label" in said.out + said.err
    model = package.load(trained)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in (model.bridge, model.encoder, model.labels):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.7, generator=generator)
        # What all texts have in common out of the logits: what is left distinguishes them.
        logits = model.labels.classifier(model.pooled(read(str(corpus)).texts))
        model.labels.classifier[-1].bias.sub_(logits.mean(0))
    save(model, run, read_run(trained))
    return run


@pytest.fixture(scope="module")
def model(labelled):
    return package.load(labelled)


def test_names_and_frequencies_come_from_the_given_labels(model, corpus):
    labels = read(str(corpus), split="train").labels
    assert model.config.labels == sorted(set(labels))
    shares = torch.tensor([labels.count(name) for name in model.config.labels]) / len(labels)
    torch.testing.assert_close(model.labels.log_prior.exp(), shares, atol=0.5 / 30, rtol=0)


def test_classify(isthmus, labelled, model, corpus):
    result = isthmus("classify", labelled, corpus, "--json")
    found, test = rows(result), read(str(corpus))
    probabilities = model.classify(test.texts)
    assert [row["text"] for row in found] == test.texts
    names = model.config.label_names
    expected = [names[place] for place in probabilities.argmax(1)]
    assert [row["label"] for row in found] == expected
    assert len(set(expected)) > 1, "the classifier is deaf: the test shows nothing"
    assert [list(row["probabilities"].values()) for row in found] == probabilities.tolist()
    right = sum(a == b for a, b in zip(expected, test.labels, strict=True)) / len(expected)
    assert f"accuracy: {right:.4f} ± " in result.err
    plain = ok(isthmus("classify", labelled, "-", stdin=A.encode()))
    [label, probability, text] = plain.out.rstrip("\n").split("\t")
    assert (label, text) == (names[model.classify([A]).argmax()], A)
    assert float(probability) == pytest.approx(model.classify([A]).max().item(), abs=1e-3)
    assert "accuracy" not in plain.err


def test_texts_get_the_label_that_is_asked_for(isthmus, labelled, model):
    names = model.config.label_names
    z = model.encode([A, B]).mean
    own = [names[place] for place in model.classify([A, B]).argmax(1)]
    stdin = f"{A}\n{B}".encode()
    kept = rows(isthmus("reconstruct", labelled, "-", "--json", stdin=stdin))
    assert [row["reconstruction"] for row in kept] == decode_as(model, z, own)
    texts = set()
    for name in names:
        generation = package.Generation(label=name)
        turned = rows(
            isthmus("reconstruct", labelled, "-", "--json", "--label", name, stdin=stdin)
        )
        assert [row["reconstruction"] for row in turned] == model.decode(z, generation)
        walk = rows(isthmus("interpolate", labelled, A, B, "--json", "--label", name))
        assert [walk[0]["text"], walk[-1]["text"]] == model.decode(z, generation)
        drawn = ok(isthmus("sample", labelled, "--label", name, "--seed", "3")).out
        texts.add(drawn)
    assert len(texts) == len(names), "the decoder is deaf: the test shows nothing"
    free = rows(isthmus("interpolate", labelled, A, B, "--json"))
    assert [free[0]["text"], free[-1]["text"]] == decode_as(model, z, own)


def test_evaluate_tells_what_the_label_does(isthmus, labelled, corpus):
    words = ["--json", "--samples", "2", "--texts", "4", "--subset", "20"]
    [m] = rows(isthmus("evaluate", labelled, corpus, *words))
    assert 0 <= m["label_accuracy"] <= 1
    assert {"label_leakage", "label_leakage_se", "label_information", "labels_used"} <= m.keys()
    assert m["nll_iw"] <= -m["elbo"] + 1e-6


def test_clusters_need_no_labels(isthmus, words, corpus, tmp_path):
    run = tmp_path / "run"
    ok(isthmus(*words, "--out", run, "--model.clusters", "3"))
    result = isthmus("classify", run, corpus, "--json")
    assert {row["label"] for row in rows(result)} <= {"0", "1", "2"}
    assert 0 < json.loads(result.err.partition("agreement with the labels: ")[2])["accuracy"] <= 1
    ok(isthmus("sample", run, "--label", "2"))
    assert "expected one of 0, 1, 2" in isthmus("sample", run, "--label", "7").err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data.labelled", "30"], "nothing reads labels; add --model.labels given"),
        (
            ["--model.labels", "given", "--data.labelled", "1"],
            "expected at least one label for each of",
        ),
        (["--model.labels", "given", "--model.clusters", "3"], "model.clusters must be 0"),
    ],
)
def test_settings_that_do_not_fit(isthmus, recipe, corpus, tmp_path, words, line):
    result = isthmus("train", corpus, "--recipe", recipe, "--out", tmp_path / "run", *words)
    assert result.code in (1, 2)
    assert line in result.err
    assert not (tmp_path / "run").exists()


def test_texts_and_runs_without_labels(isthmus, run, labelled, recipe, corpus, tmp_path):
    bare = tmp_path / "texts.txt"
    bare.write_text(f"{A}\n{B}\n" * 20, encoding="utf-8")
    words = ["--recipe", recipe, "--out", tmp_path / "run"]
    none = isthmus("train", bare, *words, "--model.labels", "given")
    assert none.err.endswith("or leave --model.labels out\n")
    assert "texts.txt: the texts have no labels" in none.err
    assert "has no labels" in isthmus("classify", run, bare).err
    assert "this model has none" in isthmus("sample", run, "--label", "x").err
    near = isthmus("sample", labelled, "--label", "pastt")
    assert (near.code, near.out) == (1, "")
    start = isthmus("train", corpus, *words, "--train.start-from", labelled)
    assert "has labels, and this run's model.labels" in start.err
    strange = tmp_path / "strange.tsv"
    strange.write_text(f"qqq\t{A}\n", encoding="utf-8")
    assert (
        "got 'qqq', which this model does not know" in isthmus("classify", labelled, strange).err
    )


def test_transfer_writes_what_least_change_does(isthmus, labelled, model, corpus):
    texts = read(str(corpus), split="test")
    wanted = model.config.labels[1]
    words = ("transfer", labelled, corpus, "--label", wanted, "--known", corpus)
    records = rows(isthmus(*words, "--json"))
    assert [row["text"] for row in records] == texts.texts
    own = likely_labels(model, texts.texts)
    assert [row["label"] for row in records] == own
    moved = [row for row, label in enumerate(own) if label != wanted]
    assert 0 < len(moved) < len(records)
    z = model.encode(texts.texts).mean
    means = label_means(z, texts.labels)
    change = Change([own[row] for row in moved], [wanted] * len(moved), means)
    found = dict(zip(moved, least_change(model, z[moved], change, WAY, 0.95), strict=True))
    assert [row["written"] for row in records] == [
        found.get(place, text) for place, text in enumerate(texts.texts)
    ]
    place = model.config.labels.index(wanted)
    sure = model.classify([row["written"] for row in records])[:, place].tolist()
    assert [row["probability"] for row in records] == pytest.approx(sure, abs=1e-5)
    shown = ok(isthmus(*words)).out.splitlines()
    assert shown[1] == f"  → {records[0]['written']}"


def test_transfer_refuses_in_one_line(isthmus, labelled, run, corpus):
    result = isthmus("transfer", labelled, corpus, "--label", "nothing")
    assert result.code == 1
    assert "which this model does not know" in result.err
    assert (
        "its decoder does not read both a label and a latent vector"
        in isthmus("transfer", run, corpus, "--label", "a").err
    )
    wide = isthmus("transfer", labelled, corpus, "--label", "a", "--certainty", "2")
    assert wide.err == "isthmus: certainty: got 2.0, expected 0 to 1\n"
