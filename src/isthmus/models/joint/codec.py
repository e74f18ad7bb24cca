"""Between examples of several kinds and batches in which any part may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.data.captioned import JOINT, Example
from isthmus.data.denoise import Denoising
from isthmus.data.labelled import label_places
from isthmus.data.unseen import Unseen
from isthmus.errors import IsthmusError
from isthmus.latent.noise import DOOR, example_noise, generators
from isthmus.models.base import LatentModel
from isthmus.models.codec import Batch, Codec, Examples, Labels

SYMBOLS_A_TOKEN: Final = 256
"""Values of a picture that cost as much as a token of its caption."""


@final
class JointExamples(Examples):
    """Examples whose parts are prepared by a codec each.

    Args:
        codec: Of all parts.
        examples: N examples, each with at least one part.
        training: Whether batches leave parts out of q(z|x) at random, see :meth:`collate`.
        labels: Of each, None where it is not observed; without them batches have none. The
            example's own label is not read, since it may be hidden.

    Raises:
        IsthmusError: An example without any part, or one that a part's codec refuses.
    """

    kind = JOINT

    def __init__(
        self,
        codec: JointCodec,
        examples: Sequence[Example],
        training: bool = False,
        labels: Labels | None = None,
    ) -> None:
        self.codec, self.training = codec, training
        self.raw = self.examples = [Example.of(example) for example in examples]
        self.labels: NDArray[np.int64] | None = None
        if labels is not None:
            self.labels = label_places(labels, codec.label_names)
        self.parts: dict[str, Examples] = {}
        self.given: dict[str, NDArray[np.bool_]] = {}
        """Which examples have a part, [N]."""
        self._places: dict[str, NDArray[np.int64]] = {}
        for name, part in codec.parts.items():
            values = [getattr(example, name) for example in self.examples]
            self.given[name] = np.array([value is not None for value in values], dtype=bool)
            self._places[name] = self.given[name].cumsum() - 1
            known = [value for value in values if value is not None]
            prepare = part.prepare_training if training else part.prepare
            self.parts[name] = prepare(known)
        empty = ~np.any(list(self.given.values()), axis=0)
        if empty.any():
            raise IsthmusError(
                f"example {empty.argmax()}: got none of {', '.join(codec.parts)}, expected one "
                "at least: a label alone leads to no latent"
            )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Symbols of all parts, a token as many as SYMBOLS_A_TOKEN values of a picture, [N]."""
        total = np.zeros(len(self.examples), dtype=np.int64)
        for name, part in self.parts.items():
            own = part.lengths * (SYMBOLS_A_TOKEN // self.codec.members[name].symbols_a_token)
            total[self.given[name]] += own
        return total

    @property
    def whole(self) -> bool:
        """Whether all parts are."""
        return all(part.whole for part in self.parts.values())

    def lost(self) -> str:
        """What each part loses."""
        return "; ".join(filter(None, [part.lost() for part in self.parts.values()]))

    def report(self) -> str:
        """One line on the parts."""
        lines = [
            f"{int(self.given[name].sum()):,} with a {name} ({part.report()})"
            for name, part in self.parts.items()
        ]
        if self.labels is not None:
            known, classes = int((self.labels >= 0).sum()), len(self.codec.label_names)
            lines.append(f"{known:,} with one of {classes:,} labels")
        return f"{len(self):,} examples: " + "; ".join(lines)

    def unseen(self, training: Examples) -> Unseen | None:
        """By the part that is text."""
        assert isinstance(training, JointExamples)
        [name] = [name for name, part in self.parts.items() if part.kind.has_text]
        return self.parts[name].unseen(training.parts[name])

    def collate(
        self,
        indices: Sequence[int],
        *,
        seed: int = 0,
        epoch: int = 0,
        noise_shape: tuple[int, ...] | None = None,
        denoising: Denoising | None = None,
    ) -> Batch:
        """For every part its batch of those examples that have it, and masks of all N.

        The tensors of a part are named ``part/name`` and have M ≤ N rows; ``part/given`` [N] says
        which examples these are. In training ``part/open`` [N] says whose posterior reads it: for
        each example a non-empty set of its parts, drawn uniformly, a function of (seed, epoch,
        index). The decoder predicts all parts, read or not. With labels, ``labels`` [N], −1 for
        one that is missing.
        """
        places = list(indices)
        batch: Batch = {}
        for name, part in self.parts.items():
            given = self.given[name][places]
            rows = self._places[name][places][given].tolist()
            corrupt = denoising if part.kind.has_text else None
            own = part.collate(rows, seed=seed, epoch=epoch, denoising=corrupt) if rows else {}
            batch |= {f"{name}/{key}": value for key, value in own.items()}
            batch[f"{name}/given"] = torch.from_numpy(given)
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[places])
        if self.training:
            batch |= self._open(places, seed, epoch)
        if noise_shape is not None:
            batch["noise"] = example_noise(seed, epoch, places, noise_shape)
        return batch

    def _open(self, places: list[int], seed: int, epoch: int) -> Batch:
        """Which parts the posteriors read, [N] each."""
        given = np.stack([own[places] for own in self.given.values()], axis=1)  # [N parts]
        chosen = np.zeros_like(given)
        for row, generator in enumerate(generators(seed, epoch, places, DOOR)):
            [own] = given[row].nonzero()
            if len(own):
                subset = generator.integers(1, 2 ** len(own))
                chosen[row, own] = (subset >> np.arange(len(own))) % 2 == 1
        return {
            f"{name}/open": torch.from_numpy(chosen[:, d]) for d, name in enumerate(self.given)
        }


@final
class JointCodec(Codec):
    """The codecs of the parts; an example's attribute of a part's name is that part.

    Args:
        members: Part → its model.
        label_names: Labels that the examples may have.
    """

    def __init__(
        self, members: Mapping[str, LatentModel], label_names: Sequence[str] = ()
    ) -> None:
        self.members, self.label_names = dict(members), tuple(label_names)

    @property
    def parts(self) -> dict[str, Codec]:
        """Part → its codec."""
        return {name: member.codec for name, member in self.members.items()}

    def prepare(self, examples: Sequence[Any], labels: Labels | None = None) -> JointExamples:
        """Examples of which q(z|x) reads all parts."""
        return JointExamples(self, examples, labels=labels)

    def prepare_training(
        self, examples: Sequence[Any], labels: Labels | None = None
    ) -> JointExamples:
        """The same with parts left out of q(z|x) at random, see :class:`JointExamples`."""
        return JointExamples(self, examples, training=True, labels=labels)
