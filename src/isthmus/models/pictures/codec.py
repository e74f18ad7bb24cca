"""Between pictures as people have them and batches of levels; how grey becomes black and white."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.denoise import Denoising
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CORRUPTION, example_noise, generators
from isthmus.models.codec import Batch, Codec, Examples

Binarisation = Literal["sampled", "threshold"]
"""How a grey value g in 0 … 1 becomes 0 or 1.

"sampled": 1 with probability g (Salakhutdinov & Murray 2008). In training anew in every epoch
("dynamic", Burda et al. 2016), a function of (seed, epoch, index). Outside of training once for
all, a function of the picture's own values and of nothing else: the same picture is the same
binary picture in every corpus, batch and run.

"threshold": 1 where g > ½ ("static").
"""

_OWN: Final = 2**35
"""Stream of the draws that belong to a picture: none that training or evaluation draws from."""


@final
class PictureExamples(Examples):
    """Pictures of one shape as levels.

    Arguments:
        codec: what the model reads.
        pictures: uint8 [N C H W].
        anew: sampled binarisation is drawn anew in every epoch, for training.
    """

    def __init__(self, codec: PictureCodec, pictures: NDArray[np.uint8], anew: bool) -> None:
        self.codec, self.pictures, self.anew = codec, pictures, anew
        self.levels = pictures.reshape(len(pictures), -1)  # [N D]
        if codec.binarisation == "threshold":
            self.levels = (self.levels > 127).astype(np.uint8)
        elif codec.binarisation == "sampled" and not anew:
            self.levels = sampled(self.levels, [_key(row) for row in self.levels], 0, _OWN)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """D, values of a picture, the same for all."""
        return np.full(len(self.levels), self.levels.shape[1], dtype=np.int64)

    def report(self) -> str:
        """One line on what the model sees."""
        how = {
            "sampled": "sampled anew in every epoch" if self.anew else "sampled once for all",
            "threshold": "1 where the grey value is above one half",
        }
        channels, height, width = self.codec.shape
        line = f"{len(self.levels):,} pictures of {channels}×{height}×{width} values"
        if self.codec.binarisation is not None:
            line += f", binary: {how[self.codec.binarisation]}"
        return line

    def collate(
        self,
        indices: Sequence[int],
        *,
        seed: int = 0,
        epoch: int = 0,
        noise_shape: tuple[int, ...] | None = None,
        denoising: Denoising | None = None,
    ) -> Batch:
        """``targets`` uint8 [N D], what the model reads and predicts, and ``noise``."""
        if denoising is not None and denoising != Denoising():
            raise IsthmusError(
                "data.deletion, data.masking and data.word_dropout corrupt tokens, and pictures "
                "have none; leave them out"
            )
        levels = self.levels[list(indices)]
        if self.anew and self.codec.binarisation == "sampled":
            levels = sampled(levels, indices, seed, epoch)
        batch: dict[str, Tensor] = {"targets": torch.from_numpy(levels)}
        if noise_shape is not None:
            batch["noise"] = example_noise(seed, epoch, indices, noise_shape)
        return batch


def sampled(
    levels: NDArray[np.uint8], indices: Sequence[int], seed: int, stream: int
) -> NDArray[np.uint8]:
    """Binary pictures with p(1) = level / 255, each a function of (seed, stream, its index)."""
    uniform = np.empty(levels.shape, dtype=np.float32)  # [N D]
    for row, generator in zip(uniform, generators(seed, stream, indices, CORRUPTION), strict=True):
        generator.random(out=row, dtype=np.float32)
    # u < 1, so that 255 is 1 always; u ≥ 0, so that 0 never is.
    return (uniform * np.float32(255) < levels).astype(np.uint8)


def _key(row: NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")


@final
@dataclass(frozen=True)
class PictureCodec(Codec):
    """What a model of pictures reads.

    Arguments:
        shape: channels, height, width.
        binarisation: how pictures are made binary for a Bernoulli likelihood; None keeps their
            256 levels.
    """

    shape: tuple[int, int, int]
    binarisation: Binarisation | None

    def prepare(self, examples: Sequence[Any], labels: object = None) -> PictureExamples:
        """Pictures [N C H W] or a list of [C H W] or (grey) [H W], levels 0 … 255 as uint8.

        Raises:
            IsthmusError: pictures of another shape or type.
        """
        return PictureExamples(self, self._checked(examples), anew=False)

    def prepare_training(self, examples: Sequence[Any], labels: object = None) -> PictureExamples:
        """The same to train on: a sampled binarisation is drawn anew in every epoch."""
        return PictureExamples(self, self._checked(examples), anew=True)

    def _checked(self, examples: Sequence[Any]) -> NDArray[np.uint8]:
        if not len(examples):
            return np.empty((0, *self.shape), dtype=np.uint8)
        for place, picture in enumerate(examples):
            given = np.shape(picture)
            if given not in (self.shape, self.shape[1:] if self.shape[0] == 1 else self.shape):
                raise IsthmusError(
                    f"picture {place}: got the shape {list(given)}, expected "
                    f"{list(self.shape)} (channels, height, width)"
                )
        pictures = np.asarray(examples)
        if pictures.dtype != np.uint8:
            raise IsthmusError(
                f"pictures: got {pictures.dtype}, expected uint8 with levels from 0 to 255"
            )
        return pictures.reshape(-1, *self.shape)
