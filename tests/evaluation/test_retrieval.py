"""Pairs of texts: ranks by hand, ties, correlations, and the three kinds of vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import spearmanr

import isthmus
from isthmus.cli import main
from isthmus.evaluation.retrieval import cosines, pair_metrics, read_pairs, retrieval, spearman
from isthmus.runs import bundle
from tiny import TEXTS, system

PLAIN = "gpt2-memory+embedding"


def values(found) -> list[float]:
    return [estimate.value for estimate in found.values()]


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_ranks_are_those_counted_by_hand(form):
    angles = np.deg2rad([0, 100, 5, 110, 40])
    vectors = form(3 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = retrieval(vectors, np.array([0, 1, 0]), np.array([4, 3, 2]))
    # Of 0° the partner at 40° is behind that at 5°, which is no wrong answer.
    assert values(found) == [1.0, 1.0, 1.0]
    found = retrieval(vectors, np.array([0, 1, 3]), np.array([4, 3, 2]))
    # 0°: 5° before 40°, rank 2. 110°: 40° before 5°, rank 2; the query itself is no candidate.
    assert values(found) == pytest.approx([1 / 3, 1.0, (0.5 + 1 + 0.5) / 3])
    assert found["retrieval_recall_1"].count == 3


def test_vectors_that_say_nothing_find_nothing():
    vectors, rows = np.ones((40, 3)), np.arange(20)
    found = retrieval(vectors, rows, rows + 20)
    # Each partner ties with 19 others, and is at the middle of their 20 places.
    assert values(found) == pytest.approx([0.0, 0.0, 1 / 10.5])
    random = np.random.default_rng(0).normal(size=(400, 5))
    found = retrieval(random, np.arange(200), np.arange(200) + 200)
    expected = 10 / 200
    estimate = found["retrieval_recall_10"]
    assert abs(estimate.value - expected) < 4 * np.sqrt(expected * (1 - expected) / 200)


def test_a_correlation_is_of_ranks_and_its_error_that_of_simulations():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 60))
    y = 0.6 * x + 0.8 * random.normal(size=x.shape)
    found = [spearman(a, list(b)) for a, b in zip(x, y, strict=True)]
    assert found[0].value == pytest.approx(spearmanr(x[0], y[0]).statistic)
    assert found[0].value == pytest.approx(spearman(np.exp(x[0]), list(y[0])).value)
    spread = np.std([one.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.12)
    assert spearman([1.0, 1.0], [1.0, 2.0]).value == 0


def test_cosines_are_of_rows():
    vectors = np.array([[1.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    for form in (np.asarray, csr_array):
        found = cosines(form(vectors), np.array([0, 0]), np.array([1, 2]))
        assert found == pytest.approx([np.sqrt(0.5), 0.0])


def test_a_space_stands_beside_its_encoder_and_tfidf(tmp_path):
    model = system(PLAIN)
    lines = [f"{a}\t{b}" for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    pairs = read_pairs(tmp_path / "pairs.tsv")
    found = pair_metrics(model, pairs)
    order = np.arange(len(TEXTS))
    partners = np.roll(order, -1)
    own = model.encode(TEXTS).mean.numpy()
    for name, vectors in {"": own, "_encoder": model.pooled(TEXTS).numpy()}.items():
        for key, estimate in retrieval(vectors, order, partners).items():
            assert found[f"{key}{name}"] == pytest.approx(estimate.value)
    assert found["pairs"] == len(TEXTS)
    assert "retrieval_recall_1_tfidf_se" in found
    scored = [f"{line}\t{score}" for score, line in enumerate(lines)]
    (tmp_path / "scored.tsv").write_text("\n".join(scored))
    near = cosines(own, order, partners)
    sts = isthmus.evaluate(model, TEXTS, samples=1, texts=0, retrieval=tmp_path / "scored.tsv")
    assert sts["sts_spearman"] == pytest.approx(spearmanr(near, order).statistic)


def test_the_verb_prints_them(tmp_path, capsys):
    bundle.save(system(PLAIN), tmp_path / "run", {})
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "pairs.tsv").write_text("a b\tb a\nc c\tb b\na\tc")
    options = ["--samples", "1", "--texts", "0", "--json"]
    files = [str(tmp_path / name) for name in ("run", "texts.txt", "pairs.tsv")]
    assert main(["evaluate", *files[:2], "--retrieval", files[2], *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = pair_metrics(system(PLAIN), read_pairs(files[2]))
    assert {key: printed[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb", "got 1 pairs, expected at least 2"),
        ("a\tb\nc", "line 2 has 1 columns"),
        ("a\tb\n\tc", "line 2 has 2 columns"),
        ("a\tb\t1\nc\td\thigh", "the score of line 2 is 'high'"),
        ("a\tb\t1\nc\td\tnan", "the score of line 2 is 'nan'"),
        ("a\tb\t1\nc\td\t1", "all scores are 1"),
    ],
)
def test_what_is_no_file_of_pairs_is_one_line(tmp_path, content, message):
    (tmp_path / "pairs.tsv").write_text(content)
    with pytest.raises(isthmus.IsthmusError, match=message) as caught:
        read_pairs(tmp_path / "pairs.tsv")
    assert "\n" not in str(caught.value)
    with pytest.raises(isthmus.IsthmusError, match="does not exist"):
        read_pairs(tmp_path / "absent.tsv")
