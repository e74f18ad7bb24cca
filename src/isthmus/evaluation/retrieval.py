"""Do texts that belong together lie together? Retrieval, and similarity as people score it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.files import read_text
from isthmus.errors import IsthmusError
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.probe import ruler_features
from isthmus.evaluation.usage import Estimate, put
from isthmus.models.base import LatentModel, encode_examples, evaluating, summarised
from isthmus.models.optimus import OptimusModel
from isthmus.progress import Progress, no_progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FOUND_AMONG = (1, 10)
"""Ranks within which a partner counts as found."""
_QUERIES_AT_ONCE = 512


@final
class Pairs(NamedTuple):
    """Texts that belong together, or that people have scored, N of each."""

    first: list[str]
    second: list[str]
    scores: list[float] | None


def read_pairs(path: str | Path) -> Pairs:
    """Pairs from a file of lines text TAB text, all or none of them with TAB score.

    Raises:
        IsthmusError: It does not exist, or a line is something else.
    """
    if not Path(path).is_file():
        raise IsthmusError(f"pairs: {path} does not exist; expected a file of text TAB text")
    rows = [line.split("\t") for line in read_text(Path(path)).splitlines() if line.strip()]
    if len(rows) < 2:
        raise IsthmusError(f"{path}: got {len(rows)} pairs, expected at least 2")
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width or width not in (2, 3) or not (row[0].strip() and row[1].strip()):
            raise IsthmusError(
                f"{path}: line {number} has {len(row)} columns, expected text TAB text in every "
                "line, or text TAB text TAB score"
            )
    first, second = [row[0] for row in rows], [row[1] for row in rows]
    return Pairs(first, second, _scores(rows, path) if width == 3 else None)


def _scores(rows: Sequence[Sequence[str]], path: str | Path) -> list[float]:
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(float(row[2]))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise IsthmusError(f"{path}: the score of line {number} is {row[2]!r}, not a number")
    if len(set(found)) < 2:
        raise IsthmusError(f"{path}: all scores are {found[0]:g}, and order nothing")
    return found


@torch.no_grad()
def pair_metrics(model: LatentModel, pairs: Pairs, progress: Progress = no_progress) -> Metrics:
    """The figures of pairs, by the posterior means, by the encoder's own vectors and by TF-IDF.

    Without scores: for each first text, where do cosines rank its partners among all second
    texts? With scores: Spearman's correlation of cosines and scores.

    Args:
        model: Of texts, with a latent.
        pairs: At least two.
        progress: Called with the number of texts just encoded.
    """
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    place = {text: number for number, text in enumerate(texts)}
    first = np.array([place[text] for text in pairs.first])
    second = np.array([place[text] for text in pairs.second])
    metrics: Metrics = {}
    for name, vectors in _vectors(model, texts, progress):
        if pairs.scores is None:
            found = retrieval(vectors, first, second)
        else:
            found = {"sts_spearman": spearman(cosines(vectors, first, second), pairs.scores)}
        for key, estimate in found.items():
            put(metrics, f"{key}{name}", estimate)
            metrics["pairs"] = estimate.count
    return metrics


def _vectors(
    model: LatentModel, texts: list[str], progress: Progress
) -> Iterator[tuple[str, NDArray[Any] | csr_array]]:
    """Vectors [M D] of texts by the end of their names."""
    examples = model.read(texts)
    with evaluating(model), summarised(model):
        yield "", encode_examples(model, examples, progress).mean.flatten(1).numpy()
        if isinstance(model, OptimusModel):
            yield "_encoder", model.pooled(texts, progress).flatten(1).float().numpy()
    yield "_tfidf", ruler_features(texts)


def cosines(
    vectors: NDArray[Any] | csr_array, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine of each pair of rows, [N]; 0 where a vector is."""
    unit = _unit(vectors)
    return np.asarray((unit[first] * unit[second]).sum(1)).ravel()


def _unit(vectors: Any) -> Any:
    """Rows of length 1; a row of zeros stays one."""
    from sklearn.preprocessing import normalize

    return normalize(vectors.astype(np.float64))


def retrieval(
    vectors: NDArray[Any] | csr_array, first: NDArray[np.int64], second: NDArray[np.int64]
) -> dict[str, Estimate]:
    """Recall at 1 and 10, and the mean reciprocal rank, of the partners of each first text.

    The candidates are all second texts but the query itself and its other partners. Ties share
    their ranks: a partner that ties with n others is at the middle of their n + 1 places, so that
    vectors that are all equal find nothing.

    Args:
        vectors: [M D].
        first: Rows of the queries, [N].
        second: Rows of their partners, [N].

    Returns:
        Means over queries; of a query with several partners the mean of theirs counts.
    """
    unit, candidates = _unit(vectors), np.unique(second)
    values: dict[str, list[float]] = {f"retrieval_recall_{k}": [] for k in FOUND_AMONG}
    values["retrieval_reciprocal_rank"] = []
    queries = np.unique(first)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[start : start + _QUERIES_AT_ONCE]
        product = unit[some] @ unit[candidates].T
        near = product if isinstance(product, np.ndarray) else product.toarray()
        for row, query in zip(near, some, strict=True):
            ranks = _ranks(row, candidates, np.unique(second[first == query]), query)
            for k in FOUND_AMONG:
                values[f"retrieval_recall_{k}"].append(float((ranks <= k).mean()))
            values["retrieval_reciprocal_rank"].append(float((1 / ranks).mean()))
    return {name: Estimate.mean_of(torch.tensor(found)) for name, found in values.items()}


def _ranks(
    near: NDArray[np.float64],
    candidates: NDArray[np.int64],
    partners: NDArray[np.int64],
    query: np.int64,
) -> NDArray[np.float64]:
    """The rank of each partner, from 1, among the candidates that are none of a query."""
    others = near[~np.isin(candidates, partners) & (candidates != query)]
    own = near[np.isin(candidates, partners)][:, None]
    ties = np.isclose(others, own, rtol=0, atol=1e-9)
    return 1 + ((others > own) & ~ties).sum(1) + ties.sum(1) / 2


def spearman(ours: Sequence[float] | NDArray[Any], theirs: Sequence[float]) -> Estimate:
    """Spearman's rank correlation ρ of N pairs of numbers.

    Its standard error is that of Fisher's z by Bonett & Wright (2000), brought back to ρ:
    (1 − ρ²) · √((1 + ρ²/2) / (N − 3)). It is 0, without an error, where one side is constant.
    """
    from scipy.stats import spearmanr

    count = len(theirs)
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return Estimate(0.0, None, count)
    rho = float(spearmanr(ours, theirs).statistic)
    error = (1 - rho**2) * math.sqrt((1 + rho**2 / 2) / (count - 3)) if count > 3 else None
    return Estimate(rho, error, count)
