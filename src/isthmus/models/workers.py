"""Who computes a function of many examples: this process, or workers elsewhere.

What is computed of examples is a function of a part of them, written once. This process calls it
with all examples, workers with a part each. It must give an example the same numbers in any part:
draws depend on the place in the whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor

from isthmus.models.codec import Examples
from isthmus.progress import Progress, no_progress

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel

Columns = tuple[Any, ...]
"""Tensors [n …] or lists, with a row for each of n examples."""

Work = Callable[..., Columns]
"""``work(model, examples, places, *given, progress=…)``: the columns of a part of the examples."""


class Workers(ABC):
    """Those that compute."""

    def map(
        self,
        work: Work,
        model: LatentModel,
        examples: Any,
        *given: Any,
        progress: Progress = no_progress,
    ) -> Columns:
        """The columns of all examples, in their order.

        Args:
            work: A function of a module, or a partial one. Its arguments are a model, a part of
                the examples, their places in the whole, and the same part of what is given.
            model: Workers elsewhere have their own of the same run.
            examples: N of them, as the model's kind has them or prepared by its codec; workers
                elsewhere get them as they were given.
            given: What there is of each example: tensors, posteriors or lists; None for nothing.
            progress: Called with the number just done.
        """
        parts, order = [], list[int]()
        for places, columns in self.parts(work, model, examples, given, progress):
            parts.append(columns)
            order += places
        if len(parts) == 1 and order == list(range(len(order))):
            return parts[0]
        back = torch.tensor(order).argsort()
        return tuple(_joined(column, back) for column in zip(*parts, strict=True))

    @abstractmethod
    def parts(
        self, work: Work, model: LatentModel, examples: Any, given: Columns, progress: Progress
    ) -> Iterator[tuple[Sequence[int], Columns]]:
        """Places of examples and their columns, every example once; arguments as for `map`."""


@final
class Here(Workers):
    """This process, to which all examples are one part."""

    def parts(
        self, work: Work, model: LatentModel, examples: Any, given: Columns, progress: Progress
    ) -> Iterator[tuple[Sequence[int], Columns]]:
        """The one part."""
        places = range(len(examples))
        yield places, work(model, examples, places, *given, progress=progress)


HERE: Final = Here()


def prepared(model: LatentModel, examples: Any) -> Examples:
    """Examples that the model's codec has prepared, or prepares now."""
    return examples if isinstance(examples, Examples) else model.codec.prepare(examples)


def _joined(parts: Sequence[Any], back: Tensor) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat([*parts])[back]
    rows = [row for part in parts for row in part]
    return [rows[place] for place in back.tolist()]
