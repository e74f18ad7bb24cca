"""Whether a run is whole: its files as they were written, its weights finite."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.runs import folders
from isthmus.runs.digests import KEY, damaged, sealed

RUN_FILE = folders.RUN_FILE
CARD = "README.md"
"""The model card, which users may edit and which nothing reads."""
WEIGHTS = ".safetensors"
_READ_TOO = ("adapter_config.json", "added_tokens.json", "special_tokens_map.json")
"""Files that transformers reads wherever they are, and that change a model or a tokenizer."""
SINCE = 1.1
"""The version of bundles from which on they have digests."""


def digests_of(run: Mapping[str, Any], place: Path) -> dict[str, str] | None:
    """The digests of the files that loading depends on; None for a run written without any.

    Args:
        run: What ``run.json`` holds.
        place: The run directory.

    Raises:
        IsthmusError: ``run.json`` itself is not as it was written.
    """
    if KEY not in run and run["bundle_version"] < SINCE:
        return None
    digests = sealed(run, RUN_FILE)
    if digests is None:
        raise changed(place, [RUN_FILE])
    return {name: digest for name, digest in digests.items() if name != CARD}


def changed(place: Path, names: list[str]) -> IsthmusError:
    """The one line about files that are not as they were written."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return IsthmusError(
        f"{place}: {shown} changed since the run was written (another SHA-256); restore "
        f"{'it' if len(names) == 1 else 'them'}, train again, or load what is there with "
        "--no-verify (verify=False)"
    )


def refuse_foreign(place: Path, names: Collection[str]) -> None:
    """Refuse files that transformers would read beside those of the run.

    Raises:
        IsthmusError: There is one.
    """
    for folder in {Path(name).parent for name in names}:
        for name in _READ_TOO:
            file = folder / name
            if file.as_posix() not in names and (place / file).is_file():
                raise IsthmusError(
                    f"{place / file}: no file of this run, but it would change how the others "
                    "are read; move it away"
                )


@contextmanager
def verifying(place: Path, digests: Mapping[str, str]) -> Iterator[None]:
    """Check the files of a run: the weights while the block loads them, all others before it.

    Whatever the block raises gives way to what is wrong with the files, which is its cause.

    Raises:
        IsthmusError: A file is missing, or not as it was written.
    """
    weights = {name: digest for name, digest in digests.items() if name.endswith(WEIGHTS)}
    rest = {name: digest for name, digest in digests.items() if name not in weights}
    _refuse(place, damaged(place, rest))
    # SHA-256 is slower than loading; on two cores it takes hardly any time of its own.
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(damaged, place, weights)
        try:
            yield
        finally:
            _refuse(place, found.result())


def _refuse(place: Path, found: Mapping[str, str]) -> None:
    if found:
        raise changed(place, list(found))


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a NaN or an infinity."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    # The sum needs no memory, and only a few tensors overflow in it.
    suspects = {name: t for name, t in floating.items() if not torch.isfinite(t.sum())}
    return [name for name, tensor in suspects.items() if not torch.isfinite(tensor).all()]


def check_finite(model: torch.nn.Module, place: Path, remedy: str) -> None:
    """Refuse weights that no number can come of.

    Raises:
        IsthmusError: A weight is NaN or infinite.
    """
    if names := not_finite(model.state_dict()):
        raise no_numbers(place, names, remedy)


def no_numbers(place: Path, names: list[str], remedy: str) -> IsthmusError:
    """The one line about tensors that are not finite."""
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return IsthmusError(
        f"{place}: NaN or infinity in {len(names)} of its tensors ({shown}); {remedy}"
    )
