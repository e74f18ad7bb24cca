"""Labels: the interface of models that have a label y in addition to what they model.

A model has y in one of two ways:

* its decoder reads y, p(x|z, y): texts, see :mod:`isthmus.models.text_model`;
* it predicts y from its latent, p(y|z): pictures and pictures with captions, see
  :mod:`isthmus.models.pictures.label_heads`.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel, evaluating, over_batches
from isthmus.models.codec import Batch
from isthmus.models.config import LatentConfig
from isthmus.progress import Progress, no_progress

NO_LABELS = "label: this model has none; train one with --model.labels given"


@strict
class LabelledConfig(LatentConfig):
    """The configuration of a model that may have labels.

    Args:
        labels: names of the C values of y; None for a model without labels.
    """

    labels: list[str] | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the C values of y; empty for a model without labels."""
        return tuple(self.labels or ())


@final
@dataclass(frozen=True)
class LabelSet:
    """What is known of the labels of a model without running it.

    Args:
        names: of the C values of y; empty for a model without labels.
        decoder_reads: True for p(x|z, y), False for p(y|z).
        clusters: y was learned without labels, so that its names are numbers.
        null_code: y can also be "no label".
        separator: what separates a label from free text after it; empty if nothing does.
    """

    names: tuple[str, ...] = ()
    decoder_reads: bool = False
    clusters: bool = False
    null_code: bool = False
    separator: str = ""

    @property
    def read_names(self) -> tuple[str, ...]:
        """The names, if the decoder reads y; else empty."""
        return self.names if self.decoder_reads else ()


class Labelled(LatentModel, ABC):
    """A model that may have a label y; ask with :func:`label_set` or :func:`labelled`."""

    config: LabelledConfig

    @property
    @abstractmethod
    def label_set(self) -> LabelSet:
        """Which labels it has."""

    @abstractmethod
    def label_posterior(self, batch: Batch) -> Tensor:
        """log q(y|x) of a batch, [N C]."""

    @torch.no_grad()
    def classify(self, examples: Sequence[Any], progress: Progress = no_progress) -> Tensor:
        """q(y|x) of examples, [N C], in the order of the examples and of the label names.

        Raises:
            IsthmusError: the model has no labels.
        """
        labelled(self)
        with evaluating(self):
            prepared = self.read(examples)
            return over_batches(self, prepared, self.label_posterior, progress).exp()


def label_set(model: LatentModel) -> LabelSet:
    """Which labels any model has, an empty set for one without labels."""
    return model.label_set if isinstance(model, Labelled) else LabelSet()


def labelled(model: LatentModel) -> Labelled:
    """The model as one with labels.

    Raises:
        IsthmusError: it has none.
    """
    if not isinstance(model, Labelled) or not model.label_set.names:
        raise IsthmusError(NO_LABELS)
    return model
