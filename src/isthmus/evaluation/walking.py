"""What a space makes of texts: reconstructions, walks, samples, and texts moved a little.

All decoding is greedy: a point of the space stands for one text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from isthmus.data.kind import sampled
from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate
from isthmus.explore.search import waypoints
from isthmus.explore.walks import decode_as, labels_between, likely_labels, sample
from isthmus.latent.distribution import Posterior
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextCodec, TextExamples
from isthmus.models.generation import Generation
from isthmus.progress import Progress, no_progress

STEPS = 5
"""Points between the two ends of a walk."""
RADII = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.4, 2.0)
"""How far texts are moved, in standard deviations of the space: √2 is the distance between two
texts of a corpus."""

OTHERS = 100_000
"""Most texts of a corpus that stand for training texts."""


@final
@dataclass(frozen=True)
class Extent:
    """How much is decoded.

    Args:
        texts: Reconstructions.
        pairs: Walks, each between two of these, no text in two of them.
        samples: Draws from the prior.
        moved: Texts that are moved by each radius.
        nearest: Training texts among which the nearest one is sought.
    """

    texts: int = 500
    pairs: int = 200
    samples: int = 1000
    moved: int = 100
    nearest: int = 2000

    def work(self, count: int) -> int:
        """Texts that are decoded, of a corpus of this size."""
        chosen = min(self.texts, count)
        walks = min(self.pairs, chosen // 2) * (STEPS + 2)
        return chosen + walks + self.samples + min(self.moved, chosen) * len(RADII)


WHOLE = Extent()
"""What ``isthmus evaluate --meaning`` decodes."""


@final
@dataclass(frozen=True)
class Walked:
    """Texts of a corpus, as the model reads them, and what it makes of them.

    Args:
        own: N texts.
        returned: Their reconstructions.
        ends: The two texts of each walk, places in ``own``, [M 2].
        walks: The points of each walk, both ends included.
        samples: From the prior.
        moved: For each of RADII, the first texts of ``own`` moved by it in a random direction. Of
            latents in two levels the summary moves, with hidden details.
        unmoved: What those are compared with: the same texts, or what their summaries say.
        posterior_radius: How far a draw from a posterior lies from its mean, in the unit of RADII;
            dimensions count by their nats.
        real: Texts of the corpus, as many as samples where there are.
        others: Training texts, or those of the corpus that are not in ``own``.
        others_are: Which, in words.
    """

    own: list[str]
    returned: list[str]
    ends: Tensor
    walks: list[list[str]]
    samples: list[str]
    moved: list[list[str]]
    unmoved: list[str]
    posterior_radius: Estimate
    real: list[str]
    others: list[str]
    others_are: str

    @property
    def middles(self) -> list[str]:
        """The middle of each walk."""
        return [walk[len(walk) // 2] for walk in self.walks]


def walked(
    model: LatentModel,
    texts: Sequence[str],
    training: Sequence[str] = (),
    extent: Extent = WHOLE,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Walked:
    """Reconstruct, walk, sample and move.

    Args:
        model: Of texts, with a latent.
        texts: A corpus, best the held-out part.
        training: What the model was trained on; without it other texts of the corpus stand for it.
        extent: How much to decode.
        seed: Of the choice of texts, of samples and directions.
        progress: Called with the number just done, of :meth:`Extent.work`.

    Raises:
        IsthmusError: The model has no latent, or is not one of texts alone.
    """
    codec = model.codec
    if not math.prod(model.latent_shape) or not isinstance(codec, TextCodec):
        raise IsthmusError(
            f"meaning: got the model {model.config.model_type} with a latent of the shape "
            f"{list(model.latent_shape)}, expected a text-vae"
        )
    examples = codec.prepare(texts)
    places = sampled(len(examples), extent.texts, seed)
    chosen, own = [examples.texts[place] for place in places], examples.spelled(places)
    if training:
        others = codec.prepare(training)
        rest = others.spelled(range(len(others)))
    else:
        left = sorted({*range(len(examples))} - {*places})
        rest = examples.spelled([left[i] for i in sampled(len(left), OTHERS, seed)])
    labels, posterior = likely_labels(model, chosen), model.encode(chosen)
    walker = _Walker(model, posterior, labels, _greedy(examples), seed, progress)
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randperm(len(own), generator=generator)
    ends = ends[: 2 * min(extent.pairs, len(own) // 2)].view(-1, 2)
    drawn, aside = extent.samples, {*own}
    return Walked(
        own,
        walker.decode(posterior.mean, labels),
        ends,
        walker.walks(ends),
        sample(model, drawn, seed, walker.greedy, progress) if drawn else [],
        moved := walker.moved(extent.moved, generator),
        moved[0] if model.config.summary else own[: extent.moved],
        walker.posterior_radius,
        examples.spelled(sampled(len(examples), drawn, seed + 1)),
        [text for text in rest if text not in aside],
        "training texts" if training else "other texts of the data",
    )


def _greedy(examples: TextExamples) -> Generation:
    return Generation(max_new_tokens=int(examples.predicted.max()))


@final
@dataclass(frozen=True)
class _Walker:
    """Moves in the space around some texts."""

    model: LatentModel
    posterior: Posterior
    labels: list[str]
    greedy: Generation
    seed: int
    progress: Progress

    def decode(self, z: Tensor, labels: Sequence[str]) -> list[str]:
        return decode_as(self.model, z, labels, self.greedy, self.progress) if len(z) else []

    @property
    def space(self) -> Posterior:
        """q of what moves: of a summary, if there is one, because details have no way to go."""
        summary = self.model.config.summary
        return self.posterior.latents(slice(summary)) if summary else self.posterior

    @property
    def spread(self) -> Tensor:
        """The standard deviation of the space in each dimension: that of q(z)."""
        mean, deviation = self.space.mean, self.space.standard_deviation
        return (mean.var(0, correction=0) + deviation.square().mean(0)).sqrt()

    @property
    def posterior_radius(self) -> Estimate:
        """Each dimension counts by its nats: a posterior fills those that say nothing."""
        share = (self.space.standard_deviation / self.spread).square().flatten(1)
        nats = -share.mean(0).clamp(1e-12, 1).log() / 2
        if not nats.sum() > 0:
            return Estimate(1.0, None, len(share))
        squared = Estimate.mean_of(share @ nats / nats.sum())
        radius = math.sqrt(squared.value)
        error = squared.standard_error
        return Estimate(radius, error and error / (2 * radius), len(share))

    def walks(self, ends: Tensor) -> list[list[str]]:
        """Between the texts in the places [M 2]."""
        points: list[Tensor] = []
        labels: list[str] = []
        along = torch.linspace(0, 1, STEPS + 2).tolist()
        for first, last in ends.tolist():
            start, end = self.posterior.mean[[first, last]]
            own = [self.labels[first], self.labels[last]] if self.labels else []
            points.append(waypoints(self.model, start, end, STEPS, labels=own))
            labels += labels_between(own, along)
        found = self.decode(torch.cat(points), labels) if points else []
        return [found[start : start + len(along)] for start in range(0, len(found), len(along))]

    def moved(self, count: int, generator: torch.Generator) -> list[list[str]]:
        """The first texts, by each of RADII in one random direction each."""
        mean = self.space.mean[:count]
        direction = torch.randn(mean.shape, generator=generator) * self.spread
        return [self.decode(mean + r * direction, self.labels[:count]) for r in RADII]
