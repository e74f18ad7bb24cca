"""A map in a Parquet file: what ``isthmus encode --out map.parquet`` writes and the studio reads.

One row for each example. Other programs that draw maps read it as it is: places ``x`` and ``y``,
vectors ``mean``, and ``neighbours`` as embedding-atlas has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from pyarrow import parquet

from isthmus.errors import reason_of
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentModel, summarised
from isthmus.progress import Progress
from isthmus.runs.digests import KEY
from isthmus.runs.folders import RUN_FILE
from isthmus.studio.map import Map, Mapped
from isthmus.studio.projections import tsne

NEIGHBOURS: Final = 15
"""As many for each example as embedding-atlas finds."""
_OWN: Final = b"isthmus"
"""The key of our part of the file's metadata."""
_COLUMNS: Final = ("mean", "spread", "reconstruction", "kl", "x", "y")
"""That the studio reads."""


def work(examples: int) -> int:
    """How many steps :func:`write` reports for so many examples."""
    return 3 * examples


def write(
    path: Path, model: LatentModel, corpus: Any, record: Mapping[str, Any], progress: Progress
) -> None:
    """Encode a corpus, place it, and write it all, the file whole or not at all.

    The columns: the text (or the picture's name); its label, if it has one; ``mean`` and
    ``spread``, the standard deviation, of q(z|x), K latents as K·P numbers; ``bound``, −ELBO from
    one draw of z, in nats; ``reconstruction``, −log p(x|z) at the mean, in nats; ``kl``, in nats;
    ``x`` and ``y`` in −1 … 1, by t-SNE; ``neighbours``, the rows of the nearest other means and
    their Euclidean distances. Of a model with a summary everything is of the summary.

    Args:
        path: The file.
        model: With a latent.
        corpus: What to map.
        record: The run's ``run.json``, by which the studio knows the file as that run's.
        progress: Called with the steps just done.
    """
    with summarised(model):
        size = math.prod(model.latent_shape)
    drawn = Map(model, corpus, torch.ones(size))  # the unit of distances, which are not written
    done = 0
    for _ in drawn.work():
        progress(drawn.done - done)
        done = drawn.done
    posterior = drawn.posterior
    with summarised(model):
        terms = model.terms(corpus.examples, posterior=posterior)
    progress(len(drawn))
    places = tsne(drawn.mean, progress)
    columns = {
        corpus.kind.field: corpus.names,
        **({} if corpus.labels is None else {"label": corpus.labels}),
        "mean": _lists(drawn.mean.numpy()),
        "spread": _lists(posterior.standard_deviation.flatten(1).float().numpy()),
        "bound": (terms.reconstruction + terms.kl_total).float().numpy(),
        "reconstruction": drawn.reconstruction.numpy(),
        "kl": drawn.kl.numpy(),
        "x": places[:, 0],
        "y": places[:, 1],
        "neighbours": _neighbours(drawn.mean.double().numpy()),
    }
    found = pyarrow.table(columns).replace_schema_metadata(
        {_OWN: json.dumps(_mark(record) | {"shape": drawn.shape})}
    )
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        parquet.write_table(found, unfinished, compression="zstd")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path, drawn: Map, record: Mapping[str, Any]) -> tuple[Mapped | None, str]:
    """What a file has of a map of the same run and corpus.

    Args:
        path: Any file.
        drawn: The map that it may be, of which nothing is done yet.
        record: The run's ``run.json``.

    Returns:
        What it has; else None, and why a map in the file is not this one, empty for other files.
    """
    if path.suffix != ".parquet" or not path.is_file():
        return None, ""
    try:
        if not (own := _own(path)):
            return None, ""
        if own["run"] != _mark(record)["run"]:
            return None, "was written by another run"
        if drawn.model.family is not DiagonalGaussian:
            return None, "has not all of this run's posteriors"
        table = parquet.read_table(path, columns=list(_COLUMNS)).slice(0, len(drawn))
        values = {name: _array(table[name], len(drawn)) for name in _COLUMNS}
    except Exception as error:  # damaged values are errors of Python's own too
        return None, f"is not a map as encode writes it ({reason_of(error)})"
    mean, spread = (values[name].view(len(drawn), *drawn.shape) for name in ("mean", "spread"))
    return Mapped(
        DiagonalGaussian(mean, 2 * spread.log()),
        values["reconstruction"],
        values["kl"],
        torch.stack([values["x"], values["y"]], 1).numpy(),
    ), ""


def _mark(record: Mapping[str, Any]) -> dict[str, str]:
    """What tells a run from all others: the digest of all in its run.json."""
    return {"run": str(record.get(KEY, {}).get(RUN_FILE, ""))}


def read_means(path: Path) -> NDArray[Any]:
    """The latents of a file, [N P] or [N K P], which are [N M] if another program wrote it."""
    column = parquet.read_table(path, columns=["mean"])["mean"]
    means = _array(column, len(column))
    own = _own(path)
    return (means.view(-1, *own["shape"]) if own else means).numpy()


def _own(path: Path) -> dict[str, Any]:
    """What :func:`write` says of a file in it; empty for other files."""
    found = (parquet.read_schema(path).metadata or {}).get(_OWN, b"{}")
    return dict(json.loads(found))


def _array(column: Any, count: int) -> torch.Tensor:
    """A column of numbers [N], or of lists of them [N M], all finite."""
    values = column.combine_chunks()
    if pyarrow.types.is_list(values.type):
        numbers = values.flatten().to_numpy(zero_copy_only=False).reshape(count, -1)
    else:
        numbers = values.to_numpy(zero_copy_only=False).reshape(count)
    if not np.isfinite(numbers).all():
        raise ValueError("numbers that are not finite")
    return torch.from_numpy(np.array(numbers, dtype=np.float32))


def _lists(rows: NDArray[Any]) -> pyarrow.ListArray:
    """Rows [N M] as a column of lists."""
    count, size = rows.shape
    return pyarrow.ListArray.from_arrays(np.arange(count + 1) * size, rows.ravel())


def _neighbours(mean: NDArray[np.float64]) -> pyarrow.StructArray:
    """The nearest other examples by their means [N P], nearest first."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(mean) - 1)
    distances, rows = np.empty((len(mean), 0)), np.empty((len(mean), 0), np.int64)
    if count:
        # Without a query no point is its own neighbour.
        distances, rows = (
            NearestNeighbors(n_neighbors=count, algorithm="brute").fit(mean).kneighbors()
        )
    return pyarrow.StructArray.from_arrays(
        [_lists(rows), _lists(distances.astype(np.float32))], ["ids", "distances"]
    )
