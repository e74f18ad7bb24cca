"""Documents on the command line: --windows, and walks by sentences."""

import json

import pytest

SHORT = "one small red ball"


@pytest.fixture(scope="module")
def documents(tmp_path_factory, corpus):
    """Two documents of several windows of 24 tokens, and a text that fits."""
    lines = (corpus / "test.tsv").read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t")[1] for line in lines]
    path = tmp_path_factory.mktemp("documents") / "documents.txt"
    path.write_text(f"{' '.join(texts[:7])}\n{SHORT}\n{' '.join(texts[7:12])}\n", "utf-8")
    return path


def test_windows_read_documents_whole(isthmus, run, documents):
    words = ("evaluate", run, documents, "--samples", "2", "--json")
    cut = json.loads(isthmus(*words).out)
    assert (cut["sentences"], cut["cut"]) == (3, 2)
    assert "documents" not in cut
    found = json.loads(isthmus(*words, "--windows").out)
    assert (found["documents"], found["cut"]) == (3, 0)
    assert found["sentences"] > 3
    for name in ("nll_iw", "kl", "reconstruction", "elbo"):
        total = found[name] * found["sentences"]
        assert found[f"document_{name}"] * 3 == pytest.approx(total)
        assert found[f"document_{name}_se"] > 0
    plain = isthmus(*words[:-1], "--windows").out
    assert "document_exact_match" in plain
    assert "document_bleu" in plain


def test_what_comes_back_of_documents_is_that_of_their_windows(isthmus, run, documents):
    result = isthmus("reconstruct", run, documents, "--windows", "--json")
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["text"] for row in rows] == documents.read_text("utf-8").splitlines()
    alone = isthmus("reconstruct", run, documents, "--json")
    short = json.loads(alone.out.splitlines()[1])
    assert rows[1]["reconstruction"] == short["reconstruction"]
    assert len(rows[0]["reconstruction"].split()) > len(short["reconstruction"].split())


def test_a_language_model_has_the_bounds_of_documents(isthmus, plain_run, documents):
    result = isthmus("evaluate", plain_run, documents, "--windows", "--samples", "1", "--json")
    found = json.loads(result.out)
    assert found["document_kl"] == 0
    assert found["document_nll_iw"] * 3 == pytest.approx(found["nll_iw"] * found["sentences"])
    assert "document_bleu" not in found


def test_a_walk_by_sentences_needs_words(isthmus, run):
    result = isthmus("interpolate", run, "one ball. two balls.", " ", "--sentences")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "end without words" in result.err
