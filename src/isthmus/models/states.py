"""Pooled states of a frozen encoder, kept in a file, so that it reads each text once."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.models.codec import Batch

_KEY = 16
_RECORD = np.dtype([("key", f"V{_KEY}"), ("sum", "<u4")])
_ROWS_AT_ONCE = 4096


@final
class KeptStates:
    """Vectors of texts, by what the encoder reads of them: the ids of their tokens.

    Two files grow with every new text, rows and keys. The system keeps them in memory as long as
    there is room, which is not this process' own memory; beyond it they are read from the disk.
    A vector is kept for good, so that two runs agree bit for bit if both read the same batches in
    the same order, or go on from the same number of rows.

    Args:
        folder: of the files.
        name: of the files; tells encoders and processes apart.
        width: H, numbers of a vector.
        dtype: of the numbers, float32 or float64.
    """

    def __init__(self, folder: Path, name: str, width: int, dtype: torch.dtype) -> None:
        self._rows_file, self._keys_file = folder / f"{name}.rows", folder / f"{name}.keys"
        self._type = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
        self._width = width
        self._places: dict[bytes, int] = {}

    def __deepcopy__(self, memo: object) -> None:
        """A copy of a model reads for itself: its weights may change."""

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, batch: Batch, read: Callable[[Batch], Tensor]) -> Tensor:
        """The vectors of a batch [N H], of which ``read`` gives those that are new."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        keys = _keys(ids, mask)
        new: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in self._places:
                new.setdefault(key, place)
        if new:
            places = torch.tensor(list(new.values()), device=ids.device)
            longest = int(mask[places].sum(1).max())
            part = {"input_ids": ids, "attention_mask": mask}
            self._add(list(new), read({k: v[places, :longest] for k, v in part.items()}))
        rows = np.empty((len(keys), self._width), dtype=self._type)
        with self._rows_file.open("rb", buffering=0) as file:
            for row, key in zip(rows, keys, strict=True):
                file.seek(self._places[key] * row.nbytes)
                file.readinto(row.data)
        return torch.from_numpy(rows).to(ids.device)

    def _add(self, keys: list[bytes], vectors: Tensor) -> None:
        rows = vectors.detach().cpu().double().numpy().astype(self._type)
        records = np.empty(len(rows), dtype=_RECORD)
        records["key"] = np.frombuffer(b"".join(keys), dtype=f"V{_KEY}")
        records["sum"] = [zlib.crc32(row.data) for row in rows]
        for path, content in ((self._rows_file, rows), (self._keys_file, records)):
            with path.open("ab", buffering=0) as file:
                file.write(content.tobytes())
        first = len(self._places)
        self._places |= {key: first + place for place, key in enumerate(keys)}

    def commit(self) -> int:
        """Make sure that the disk has all rows, and count them."""
        for path in (self._rows_file, self._keys_file):
            with path.open("ab") as file:
                os.fsync(file.fileno())
        return len(self)

    def restore(self, count: int) -> bool:
        """Go on with the first rows; with none, and False, if they are missing or damaged."""
        self._rows_file.parent.mkdir(parents=True, exist_ok=True)
        keys = self._sound_keys(count)
        self._places = {key: place for place, key in enumerate(keys or ())}
        sizes = (self._width * self._type.itemsize, _RECORD.itemsize)
        for path, size in zip((self._rows_file, self._keys_file), sizes, strict=True):
            with path.open("ab") as file:
                file.truncate(len(self) * size)
        return keys is not None

    def _sound_keys(self, count: int) -> list[bytes] | None:
        if not count:
            return []
        try:
            records = np.fromfile(self._keys_file, dtype=_RECORD, count=count)
            with self._rows_file.open("rb") as file:
                for first in range(0, count, _ROWS_AT_ONCE):
                    some = records[first : first + _ROWS_AT_ONCE]
                    rows = np.fromfile(file, self._type, len(some) * self._width)
                    sums = [zlib.crc32(row.data) for row in rows.reshape(-1, self._width)]
                    if len(sums) != len(some) or (np.array(sums) != some["sum"]).any():
                        return None
        except (OSError, ValueError):
            return None
        return [bytes(key) for key in records["key"]] if len(records) == count else None


def _keys(ids: Tensor, mask: Tensor) -> list[bytes]:
    """A digest of the ids of every text, without its padding."""
    rows: NDArray[np.int64] = ids.cpu().numpy()
    lengths = mask.sum(1).tolist()
    return [
        hashlib.blake2b(row[:length].tobytes(), digest_size=_KEY).digest()
        for row, length in zip(rows, lengths, strict=True)
    ]


def digest_of(module: nn.Module, more: str, without: tuple[str, ...] = ()) -> str:
    """A digest of the weights of a module, and of whatever else its states depend on.

    Args:
        module: an encoder.
        more: what else.
        without: how the names of weights begin that have no part in them.
    """
    found = hashlib.blake2b(more.encode(), digest_size=8)
    for name, value in module.state_dict().items():
        if name.startswith(without):
            continue
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
