"""Between pictures as people have them and batches of levels; how grey becomes black and white."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.data.denoise import Denoising
from isthmus.data.labelled import label_places
from isthmus.data.pictures import PICTURE
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CORRUPTION, NOISE, generators
from isthmus.models.codec import Batch, Codec, Examples, Labels

Binarisation = Literal["sampled", "threshold"]
"""How a grey value g in 0 … 1 becomes 0 or 1.

"sampled": 1 with probability g (Salakhutdinov & Murray 2008). In training anew in every epoch
("dynamic", Burda et al. 2016), a function of (seed, epoch, place). Outside of training once for
all, a function of the picture's own values and of nothing else: the same picture is the same
binary picture in every corpus, batch and run.

"threshold": 1 where g > ½ ("static").
"""

_OWN: Final = 2**35
"""Stream of the draws that belong to a picture: none that training or evaluation draws from."""

_ROWS: Final = 256
"""Pictures whose random numbers are held at a time."""


@final
class PictureExamples(Examples):
    """Pictures of one shape as levels.

    Args:
        codec: What the model reads.
        pictures: uint8 [N C H W].
        anew: Sampled binarisation is drawn anew in every epoch, for training.
        labels: Of each picture, None where it is not given; without them batches have none.
    """

    kind = PICTURE

    def __init__(
        self,
        codec: PictureCodec,
        pictures: NDArray[np.uint8],
        anew: bool,
        labels: Labels | None = None,
    ) -> None:
        self.codec, self.pictures, self.raw = codec, pictures, pictures
        self.labels: NDArray[np.int64] | None = None
        if labels is not None:
            self.labels = label_places(labels, codec.label_names)
        self.anew = anew and codec.binarisation == "sampled"
        self._levels = pictures.reshape(len(pictures), math.prod(codec.shape))  # [N D]
        if codec.binarisation == "threshold":
            self._levels = (self._levels > 127).astype(np.uint8)
        elif codec.binarisation == "sampled" and not anew:
            self._levels = sampled_once(self._levels)
        self._epoch: tuple[int, int] | None = None
        self._noise_for: tuple[int, int, tuple[int, ...]] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """D, values of a picture, the same for all."""
        return np.full(len(self.pictures), self._levels.shape[1], dtype=np.int64)

    def report(self) -> str:
        """One line on what the model sees."""
        how = {
            "sampled": "sampled anew in every epoch" if self.anew else "sampled once for all",
            "threshold": "1 where the grey value is above one half",
        }
        channels, height, width = self.codec.shape
        number, s = len(self.pictures), "s" * (len(self.pictures) != 1)
        line = f"{number:,} picture{s} of {channels}×{height}×{width} values"
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
        """``targets`` uint8 [N D], what the model reads and predicts, and ``noise`` [N P].

        With labels, ``labels`` [N], −1 for one that is missing.

        Draws are functions of (seed, epoch, place): those of an epoch are made together, since a
        small picture takes a perceptron no longer than a generator takes to start.
        """
        if denoising is not None and denoising != Denoising():
            raise IsthmusError(
                "data.deletion, data.masking and data.word_dropout corrupt tokens, and pictures "
                "have none; leave them out"
            )
        places = list(indices)
        if self.anew and self._epoch != (seed, epoch):
            self._drawn = sampled_anew(self._levels, seed, epoch)
            self._epoch = (seed, epoch)
        levels = self._drawn if self.anew else self._levels
        batch: dict[str, Tensor] = {"targets": torch.from_numpy(levels[places])}
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[places])
        if noise_shape is not None:
            if self._noise_for != (seed, epoch, noise_shape):
                [generator] = generators(seed, epoch, [0], NOISE)
                shape = (len(self.pictures), *noise_shape)
                self._noise = torch.from_numpy(generator.standard_normal(shape, np.float32))
                self._noise_for = (seed, epoch, noise_shape)
            batch["noise"] = self._noise[places]
        return batch


def sampled_anew(levels: NDArray[np.uint8], seed: int, epoch: int) -> NDArray[np.uint8]:
    """Binary pictures [N D] with p(1) = level / 255, a function of (seed, epoch, place)."""
    [generator] = generators(seed, epoch, [0], CORRUPTION)
    binary = np.empty(levels.shape, dtype=np.bool_)
    for start in range(0, len(levels), _ROWS):
        _binarise(levels[start : start + _ROWS], generator, binary[start : start + _ROWS])
    return binary.view(np.uint8)


def sampled_once(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same, each picture [D] a function of itself."""
    binary = np.empty(levels.shape, dtype=np.bool_)
    keys = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in levels)
    indices = [int.from_bytes(key, "little") for key in keys]
    for place, generator in enumerate(generators(0, _OWN, indices, CORRUPTION)):
        _binarise(levels[place], generator, binary[place])
    return binary.view(np.uint8)


def _binarise(
    levels: NDArray[np.uint8], generator: np.random.Generator, out: NDArray[np.bool_]
) -> None:
    """1 with probability level / 255 exactly: LEVEL of the numbers 0 … 254 are smaller than it."""
    np.less(generator.integers(0, 255, levels.shape, np.uint8), levels, out=out)


@final
@dataclass(frozen=True)
class PictureCodec(Codec):
    """What a model of pictures reads.

    Args:
        shape: Channels, height, width.
        binarisation: How pictures are made binary for a Bernoulli likelihood; None keeps their
            256 levels.
        label_names: What labels the pictures may have.
    """

    shape: tuple[int, int, int]
    binarisation: Binarisation | None
    label_names: tuple[str, ...] = ()

    def prepare(self, examples: Sequence[Any], labels: Labels | None = None) -> PictureExamples:
        """Pictures [N C H W] or a list of [C H W] or (grey) [H W], levels 0 … 255 as uint8."""
        return PictureExamples(self, self._checked(examples), False, labels)

    def prepare_training(
        self, examples: Sequence[Any], labels: Labels | None = None
    ) -> PictureExamples:
        """The same to train on: a sampled binarisation is drawn anew in every epoch."""
        return PictureExamples(self, self._checked(examples), True, labels)

    def _checked(self, examples: Sequence[Any]) -> NDArray[np.uint8]:
        own = (self.shape, self.shape[1:] if self.shape[0] == 1 else self.shape)
        if isinstance(examples, np.ndarray | Tensor):
            examples = np.asarray(examples)
            examples = [examples] if examples.shape in own else examples
        if not len(examples):
            return np.empty((0, *self.shape), dtype=np.uint8)
        for place, picture in enumerate(examples):
            given = np.shape(picture)
            if given not in own:
                raise IsthmusError(
                    f"picture {place}: got the shape {list(given)}, expected "
                    f"{list(self.shape)} (channels, height, width)"
                )
        if isinstance(examples, np.ndarray):
            pictures = examples.reshape(-1, *self.shape)
        else:
            pictures = np.stack([np.reshape(picture, self.shape) for picture in examples])
        if pictures.dtype != np.uint8:
            raise IsthmusError(
                f"pictures: got {pictures.dtype}, expected uint8 with levels from 0 to 255"
            )
        return pictures
