"""A label y that the decoder reads, p(x|z, y): semi-supervised, clusters, control codes.

    p(x, y, z) = p(y) p(z) p(x|z, y),    q(y, z|x) = q(y|x) q(z|x)

y enters the decoder through the bridge, next to z. Training treats it by what is known of it:

* y is given: −log p(x, y) ≤ −E_q[log p(x|z, y)] + KL(q(z|x) ‖ p(z)) − log p(y), and q(y|x) learns
  by its cross-entropy (Kingma et al. 2014, arXiv 1406.5298, eq. 6 and 9).
* y is missing: the decoder reads a relaxed draw from q(y|x) (Gumbel-softmax; Jang et al. 2017,
  arXiv 1611.01144), and −log p(y) becomes KL(q(y|x) ‖ p(y)), exact over all labels.

A batch that carries ``labels`` is one to train on and gets these terms. Evaluation never knows a
label: ``reconstruction`` is −log Σ_y p(y) p(x|z, y), summed over all of them, so every bound is a
true bound on log p(x), whatever q(y|x) says.

Without a z this is CTRL (Keskar et al. 2019, arXiv 1909.05858): p(x|c), a language model under
control codes. There q(y|x) is p(y|x) itself, by Bayes' rule. A *null code* means "no code given";
training hides some codes behind it (``data.code_dropout``). Guidance steers away from it, but
p(x) never uses it: that is always the exact sum.

p(x|z, y) gets y for free, while z pays KL for all that it carries, so the bound itself drives the
label out of z; ``label_leakage`` of :mod:`isthmus.evaluation.labels` measures what remains. If the
KL costs little, as in style transfer, an adversary can do the rest (``model.adversary``): it
predicts y from the mean of q(z|x), and the encoder hides y (Ganin et al. 2016, arXiv 1505.07818).
CARA was meant to do so (Li et al. 2020, section 4.3), but the released code multiplies that loss
by 0.0.
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
class LabelInput(nn.Module):
    """p(y), y as a decoder reads it, and q(y|x) on the encoder's pooled vector if there is one.

    y is a row of ``size`` numbers: the null code first, if there is one, then the C labels, so
    that labels added later change nothing before them.

    Args:
        names: of the C labels.
        null_code: whether y can also be "no label".
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
        """log p(y), [C]: the frequencies of the given labels; uniform before any are given."""
        return (self.counts.double() / self.counts.double().sum()).log().float()

    def start_prior(self, labels: Sequence[str | None]) -> None:
        """Set p(y) to the frequencies of the labels that are given."""
        self.counts.copy_(self._counted(labels))

    def add(self, names: Sequence[str], labels: Sequence[str | None]) -> None:
        """Append names, and add the given labels to the frequencies."""
        self.names += tuple(names)
        counted = self._counted(labels).to(self.counts)
        self.counts = torch.cat([self.counts, self.counts.new_zeros(len(names))]) + counted

    def _counted(self, labels: Sequence[str | None]) -> Tensor:
        counts = Counter(labels)
        return torch.tensor([float(counts[name]) for name in self.names])

    def forward(self, pooled: Tensor) -> Tensor:
        """log q(y|x), [N H] → [N C], in float32."""
        return self.classifier(pooled).float().log_softmax(-1)

    def one_hot(self, label: int, count: int) -> Tensor:
        """The y of N texts with the same label, [N size]; −1 is the null code."""
        return self.rows(torch.full((count,), label, device=self.counts.device))

    def each(self, places: Sequence[int] | None, count: int) -> list[Tensor]:
        """The y of N texts under each of these labels in turn; under all labels if absent."""
        chosen = range(len(self.names)) if places is None else places
        return [self.one_hot(place, count) for place in chosen]

    def rows(self, labels: Tensor) -> Tensor:
        """The y of labels [N], [N size]; −1 is the null code."""
        return functional.one_hot(labels + self.null_code, self.size).float()

    def draw(self, log_q: Tensor, labels: Tensor, noise: Tensor | None = None) -> Tensor:
        """The y that training reads: the label if it is given, else a relaxed draw from q(y|x).

        Args:
            log_q: log q(y|x), [N C].
            labels: [N], −1 for a missing one.
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

        Args:
            log_q: log q(y|x), [N C].
            labels: [N], −1 for a missing one.
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

    def adversary_loss(self, mean: Tensor, labels: Tensor) -> Tensor:
        """The losses of an adversary and of the encoder, added, [N], nats; 0 without a label.

        The adversary: −log q_a(y|mean) of the label, which trains its own weights alone. The
        encoder: KL(p(y) ‖ q_a(y|mean)), which trains the mean alone and is least if the adversary
        knows no more than the frequencies. A reversed gradient has the same fixed point, but no
        bound: the encoder can make the adversary ever more wrong by ever larger means, and did
        (docs/log.md).
        """
        log_q = self.adversary(mean.detach()).float().log_softmax(-1)
        accused = -log_q.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        weights = {name: value.detach() for name, value in self.adversary.named_parameters()}
        fooled = torch.func.functional_call(self.adversary, weights, mean).float().log_softmax(-1)
        hidden = (self.log_prior.exp() * (self.log_prior - fooled)).sum(-1)
        return torch.where(labels >= 0, accused + hidden, torch.zeros_like(accused))

    def summed_out(self, losses: Tensor) -> Tensor:
        """−log Σ_y p(y) p(x|z, y) of −log p(x|z, y), [C N] → [N], nats."""
        return -(self.log_prior.unsqueeze(-1) - losses).logsumexp(0)

    def sample(self, count: int, generator: torch.Generator) -> list[str]:
        """Names of labels from p(y), drawn on the CPU as the latents are."""
        weights = self.log_prior.exp().cpu()
        drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
        return [self.names[place] for place in drawn.tolist()]

    def named(self, name: str, count: int) -> Tensor:
        """The y of N texts with the label of this name, [N size].

        Raises:
            IsthmusError: an unknown label.
        """
        return self.one_hot(label_index(name, self.names), count)

    def chosen(self, count: int, generation: Generation) -> Tensor:
        """The y of N texts to write, [N size].

        The requested label. Without one, y is treated like the words of the text: sampling draws
        it from p(y), greedy decoding and beam search take the most probable one.
        """
        if generation.label is not None:
            return self.named(generation.label, count)
        if not generation.sample:
            return self.one_hot(int(self.log_prior.argmax()), count)
        return self.rows(torch.multinomial(self.log_prior.exp(), count, replacement=True))

    def source(
        self, under: Callable[[Tensor], Source], count: int, generation: Generation
    ) -> Source:
        """The source that writes N texts: under their label or a mixture of labels, with guidance.

        Args:
            under: the source of the texts under a y [N size].
            count: N.
            generation: the requested label, mixture and guidance.

        Raises:
            IsthmusError: an unknown label, or guidance without a code to steer away from.
        """
        if generation.mixture:
            names, weights = zip(*generation.mixture, strict=True)
            towards: Source = Mixed([under(self.named(name, count)) for name in names], weights)
        else:
            towards = under(self.chosen(count, generation))
        if generation.guidance == 1:
            return towards
        if generation.against is not None:
            away = under(self.named(generation.against, count))
        elif self.null_code:
            away = under(self.one_hot(-1, count))
        else:
            raise IsthmusError(
                "guidance: this model has no null code to steer away from; name a code with "
                "--against, or train with --data.code-dropout 0.1"
            )
        return Steered(away, towards, away, generation.guidance, generation.guidance_top_p)
