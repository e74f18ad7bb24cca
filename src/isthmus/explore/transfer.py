"""Style transfer: texts under another label that keep their content.

Three levers change the label of a text with a latent z and a label y: the label that the decoder
reads; guidance away from the text's own label (:mod:`isthmus.control.guidance`); and z itself,
which still knows the label if the KL has a small weight. All of them cost content, and texts
differ in how much they need: :func:`least_change` asks the model's own classifier q(y|x) after
every step and continues only with the texts that have not changed yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from isthmus.data.labelled import label_index
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.models.text_model import label_reader


@final
@dataclass(frozen=True)
class Change:
    """The labels that N texts have, and the labels that they are to get.

    Args:
        own: a label for each text.
        wanted: the new label of each text.
        means: μ_y [P] of every label, see :func:`label_means`.
    """

    own: Sequence[str]
    wanted: Sequence[str]
    means: Mapping[str, Tensor]

    def of(self, rows: Sequence[int]) -> Change:
        """The change of some of the texts."""
        own, wanted = ([labels[row] for row in rows] for labels in (self.own, self.wanted))
        return Change(own, wanted, self.means)


@final
@dataclass(frozen=True)
class Step:
    """How far a text is moved.

    Args:
        guidance: γ of l_own + γ (l_wanted − l_own); at 1 the decoder reads the wanted label.
        shift: w of z + w (μ_wanted − μ_own).
    """

    guidance: float = 1.0
    shift: float = 0.0


WAY = tuple(Step(1.0, shift) for shift in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5))
"""The usual steps of `least_change`: from the label alone to a latent beyond that label's mean."""


def label_means(z: Tensor, labels: Sequence[str]) -> dict[str, Tensor]:
    """Mean μ_y of the latents [N P] of each label y, [P], in double precision."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return {label: z[own].double().mean(0) for label, own in rows.items()}


def shifted(z: Tensor, change: Change, weight: float) -> Tensor:
    """Latents z + w (μ_wanted − μ_own), [N P]; at w = 1 the means of two labels trade places.

    References:
        Shen et al. (2020), Educating Text Autoencoders: Latent Representation Guidance via
        Denoising, arXiv 1905.12777 (style transfer by vector arithmetic).

    Args:
        z: [N P].
        change: of the N texts.
        weight: w.

    Raises:
        IsthmusError: a label without a mean.
    """
    if missing := sorted({*change.own, *change.wanted} - change.means.keys()):
        raise IsthmusError(
            f"means of labels: got {', '.join(sorted(change.means))}, expected {missing[0]} as "
            "well; give texts of every label (--known)"
        )
    away, towards = (
        torch.stack([change.means[label] for label in labels])
        for labels in (change.own, change.wanted)
    )
    return (z.double() + weight * (towards - away)).to(z)


def move(
    model: LatentModel,
    z: Tensor,
    change: Change,
    step: Step,
    generation: Generation | None = None,
) -> list[str]:
    """Texts of latents, all moved by one step.

    Args:
        model: reads a label and z.
        z: [N P].
        change: of the N texts.
        step: how far to move.
        generation: how to write texts; its label and guidance are ignored.
    """
    settings = Generation() if generation is None else generation
    moved = shifted(z, change, step.shift)
    texts = [""] * len(z)
    pairs = list(zip(change.own, change.wanted, strict=True))
    for own, wanted in sorted(set(pairs)):
        rows = [row for row, pair in enumerate(pairs) if pair == (own, wanted)]
        against = None if step.guidance == 1 else own
        asked = replace(settings, label=wanted, guidance=step.guidance, against=against)
        for row, text in zip(rows, model.decode(moved[rows], asked), strict=True):
            texts[row] = text
    return texts


def least_change(
    model: LatentModel,
    z: Tensor,
    change: Change,
    steps: Sequence[Step],
    certainty: float = 0.5,
    generation: Generation | None = None,
) -> list[str]:
    """Texts of latents, each moved by the first step after which it has the wanted label.

    A text has it if the model's own q(wanted|text) is at least `certainty`. If no step reaches
    that, the text of the first step is kept, because more would cost content for nothing. This
    needs a q(y|x) that has learned its labels; ``label_accuracy`` of evaluate shows whether.

    Args:
        model: reads a label and z.
        z: [N P].
        change: of the N texts.
        steps: from near to far.
        certainty: from 0, at which the first step suffices for all, to 1.
        generation: as for :func:`move`.

    Raises:
        IsthmusError: no steps, or a label that the model or the means do not know.
    """
    if not steps:
        raise IsthmusError("steps: got none, expected at least one, for example [Step()]")
    reader = label_reader(model)
    names = reader.label_set.names
    places = torch.tensor([label_index(label, names) for label in change.wanted])
    texts: list[str] = []
    remaining = list(range(len(z)))
    for step in steps:
        found = move(model, z[remaining], change.of(remaining), step, generation)
        texts = texts or found
        sure = reader.classify(found).gather(1, places[remaining].unsqueeze(1)).squeeze(1)
        unchanged = []
        for row, text, value in zip(remaining, found, sure.tolist(), strict=True):
            if value >= certainty:
                texts[row] = text
            else:
                unchanged.append(row)
        if not (remaining := unchanged):
            break
    return texts
