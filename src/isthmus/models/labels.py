"""A label y beside z: semi-supervised classification, discrete clusters, p(x|z, y).

    p(x, y, z) = p(y) p(z) p(x|z, y),    q(y, z|x) = q(y|x) q(z|x)

y enters the decoder through the bridge, side by side with z. What comes of it depends on what is
known of y in training:

* y is given: −log p(x, y) ≤ −E_q[log p(x|z, y)] + KL(q(z|x) ‖ p(z)) − log p(y), and q(y|x) learns
  by its cross-entropy (Kingma et al. 2014, arXiv 1406.5298, eq. 6 and 9).
* y is not: the decoder reads a relaxed draw from q(y|x) (Gumbel-softmax; Jang et al. 2017, arXiv
  1611.01144), and −log p(y) becomes KL(q(y|x) ‖ p(y)), exact over all labels.

A batch that carries ``labels`` is one to train on and gets these terms. Evaluation never knows a
label: ``reconstruction`` is −log Σ_y p(y) p(x|z, y), summed over all of them, so that every bound
stays a true bound on log p(x), whatever q(y|x) says.

Without a z this is CTRL (Keskar et al. 2019, arXiv 1909.05858): p(x|c), a language model under
control codes. There q(y|x) is p(y|x) itself, by Bayes' rule. A *null code* stands for "no code is
told" where some of them are hidden in training (``data.code_dropout``); guidance steers away
from it, and p(x) never comes from it, but from the exact sum.

p(x|z, y) gets y for nothing while z pays KL for all that it carries, so the bound itself drives
the label out of z; ``label_leakage`` of :mod:`isthmus.evaluation.labels` measures what stays in.
Where the KL is charged little, as for style transfer, an adversary can do the rest
(``model.adversary``): it tells y from the mean of q(z|x), and the encoder hides it (Ganin et al.
2016, arXiv 1505.07818). CARA's should have done so (Li et al. 2020, section 4.3), but the released
code multiplies its loss by 0.0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.data.labelled import label_index
from isthmus.errors import IsthmusError
from isthmus.models.generation import Generation, Mixed, Source, Steered

HIDDEN_SIZE = 100
"""Of the classifier (Yang et al. 2017, section 4)."""

TEMPERATURE = 2 / 3
"""Of the relaxed draw: low enough that y is nearly one label, high enough for a gradient."""


def _classifier(size: int, classes: int) -> nn.Sequential:
    # Leaky: under a large learning rate all hidden units may end up below zero for every text, and
    # those of a ReLU stay there.
    hidden = nn.Linear(size, HIDDEN_SIZE)
    return nn.Sequential(hidden, nn.LeakyReLU(), nn.Linear(HIDDEN_SIZE, classes))


@final
class LabelPart(nn.Module):
    """p(y), y as a decoder reads it, and q(y|x) on the encoder's pooled vector where there is one.

    y is a row of ``size`` numbers: the null code first, if there is one, then the C labels, so
    that labels that are added later change nothing before them.

    Arguments:
        names: of the C labels.
        null_code: whether "no label" can be told as well.
        hidden_size: H of the pooled vector; 0 for a model without an encoder.
        adversary_size: P of the means that an adversary reads; 0 for none.
    """

    counts: Tensor

    def __init__(
        self,
        names: Sequence[str],
        null_code: bool = False,
        hidden_size: int = 0,
        adversary_size: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.null_code = null_code
        if hidden_size:
            self.classifier = _classifier(hidden_size, len(self.names))
        if adversary_size:
            self.adversary = _classifier(adversary_size, len(self.names))
        self.register_buffer("counts", torch.ones(len(self.names)))

    @property
    def size(self) -> int:
        """Width of y."""
        return len(self.names) + self.null_code

    @property
    def log_prior(self) -> Tensor:
        """Log p(y), [C]: the frequencies of the labels that were told; uniform before."""
        return (self.counts.double() / self.counts.double().sum()).log().float()

    def start_prior(self, labels: Sequence[str | None]) -> None:
        """Set p(y) to the frequencies of the labels that are given."""
        self.counts.copy_(self._counted(labels))

    def add(self, names: Sequence[str], labels: Sequence[str | None]) -> None:
        """Add labels behind the others, and what is told now to the frequencies."""
        self.names += tuple(names)
        told = self._counted(labels).to(self.counts)
        self.counts = torch.cat([self.counts, self.counts.new_zeros(len(names))]) + told

    def _counted(self, labels: Sequence[str | None]) -> Tensor:
        counts = Counter(label for label in labels if label is not None)
        return torch.tensor([float(counts[name]) for name in self.names])

    def forward(self, pooled: Tensor) -> Tensor:
        """Log q(y|x), [N H] → [N C], in float32."""
        return self.classifier(pooled).float().log_softmax(-1)

    def one_hot(self, label: int, count: int) -> Tensor:
        """The y of N texts of one label, [N size]; −1 is the null code."""
        return self.rows(torch.full((count,), label, device=self.counts.device))

    def each(self, places: Sequence[int] | None, count: int) -> list[Tensor]:
        """The y of N texts under one label after the other; under all labels if none is named."""
        chosen = range(len(self.names)) if places is None else places
        return [self.one_hot(place, count) for place in chosen]

    def rows(self, labels: Tensor) -> Tensor:
        """The y of labels [N], [N size]; −1 is the null code."""
        return functional.one_hot(labels + self.null_code, self.size).float()

    def draw(self, log_q: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """What training reads for y: the label where it is given, else a relaxed draw from q(y|x).

        Arguments:
            log_q: log q(y|x), [N C].
            labels: [N], −1 where none is given.
            noise: standard Gumbel, [N C]; drawn from torch's generator if absent.

        Returns:
            Points of the simplex, [N size].
        """
        if noise is None:
            noise = -torch.empty_like(log_q).exponential_().log()
        relaxed = ((log_q + noise) / TEMPERATURE).softmax(-1)
        relaxed = functional.pad(relaxed, (int(self.null_code), 0))
        given = self.rows(labels.clamp_min(0)).to(relaxed)
        return torch.where((labels >= 0).unsqueeze(-1), given, relaxed)

    def terms(self, log_q: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``label``, ``classification`` and ``balance`` of :class:`Terms`, nats, [N] each.

        Arguments:
            log_q: log q(y|x), [N C].
            labels: [N], −1 where none is given.
        """
        given, own = labels >= 0, labels.clamp_min(0)
        kl = (log_q.exp() * (log_q - self.log_prior)).sum(-1)
        surprise = -log_q.gather(-1, own.unsqueeze(-1)).squeeze(-1)
        average = log_q.logsumexp(0) - math.log(len(log_q))  # log of the mean over the batch
        return {
            "label": torch.where(given, -self.log_prior[own], kl),
            "classification": torch.where(given, surprise, torch.zeros_like(surprise)),
            "balance": (average.exp() * (average - self.log_prior)).sum().expand(len(log_q)),
        }

    def betrayed(self, mean: Tensor, labels: Tensor) -> Tensor:
        """What an adversary and the encoder lose to each other, [N], nats; 0 without a label.

        The adversary: −log q_a(y|mean) of the label, by its own weights alone. The encoder:
        KL(p(y) ‖ q_a(y|mean)), by the mean alone, which is least where the adversary knows no more
        than the frequencies. A reversed gradient has the same fixed point, but no bound: the
        encoder can make it ever more wrong by ever larger means, and did (docs/log.md).
        """
        told = labels >= 0
        log_q = self.adversary(mean.detach()).float().log_softmax(-1)
        accused = -log_q.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        weights = {name: value.detach() for name, value in self.adversary.named_parameters()}
        fooled = torch.func.functional_call(self.adversary, weights, mean).float().log_softmax(-1)
        hidden = (self.log_prior.exp() * (self.log_prior - fooled)).sum(-1)
        return torch.where(told, accused + hidden, torch.zeros_like(accused))

    def summed_out(self, losses: Tensor) -> Tensor:
        """−log Σ_y p(y) p(x|z, y) of −log p(x|z, y), [C N] → [N], nats."""
        return -(self.log_prior.unsqueeze(-1) - losses).logsumexp(0)

    def sample(self, count: int, generator: torch.Generator) -> list[str]:
        """Names of labels from p(y), drawn on the CPU as the latents are."""
        weights = self.log_prior.exp().cpu()
        drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
        return [self.names[place] for place in drawn.tolist()]

    def chosen(self, count: int, generation: Generation) -> Tensor:
        """The y of N texts to be written, [N size].

        The label that is asked for. Where none is, it is treated like the words of the text:
        sampling draws it from p(y), greedy text and beam search take the most probable one.
        """
        if generation.label is not None:
            return self.one_hot(label_index(generation.label, self.names), count)
        if not generation.sample:
            return self.one_hot(int(self.log_prior.argmax()), count)
        return self.rows(torch.multinomial(self.log_prior.exp(), count, replacement=True))

    def source(
        self, under: Callable[[Tensor], Source], count: int, generation: Generation
    ) -> Source:
        """What N texts are written from: their label, or a mixture of labels, and guidance.

        Arguments:
            under: the source of the texts under a y [N size].
            count: N.
            generation: see there.

        Raises:
            IsthmusError: an unknown label, or guidance without a code to steer away from.
        """

        def named(name: str) -> Source:
            return under(self.one_hot(label_index(name, self.names), count))

        if generation.mixture:
            names, weights = zip(*generation.mixture, strict=True)
            told: Source = Mixed([named(name) for name in names], weights)
        else:
            told = under(self.chosen(count, generation))
        if generation.guidance == 1:
            return told
        if generation.against is not None:
            away = named(generation.against)
        elif self.null_code:
            away = under(self.one_hot(-1, count))
        else:
            raise IsthmusError(
                "guidance: this model has no null code to steer away from; name a code with "
                "--against, or train with --data.code-dropout 0.1"
            )
        return Steered(away, told, away, generation.guidance, generation.guidance_top_p)
