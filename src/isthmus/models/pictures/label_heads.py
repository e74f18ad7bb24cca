"""p(y|z): a label predicted from a latent, by a softmax or by a Bayesian SVM.

    −log p(x, y) ≤ −E_q(z|x)[log p(x|z) + ξ log p(y|z)] + KL(q(z|x) ‖ p(z))    (at ξ = 1)

z explains the label as well as the picture (Pu et al. 2016, arXiv 1609.08976). The term of a
missing label is 0, and all other terms are unchanged. A label that the decoder *reads*, p(x|z, y),
is another model, see :mod:`isthmus.models.label_input`.

So a picture without a label teaches p(y|z) only through its latent. Two terms outside the bound
let it teach more: the entropy of p(y|z) of pictures without a label (Grandvalet & Bengio 2005,
NIPS 17) keeps class borders away from pictures, and KL(mean p(y|z) ‖ p(y)) keeps all classes in
use; together they are the information between y and z (Krause, Perona & Gomes 2010, NIPS 23).

The Bayesian SVM (Polson & Scott 2011, Bayesian Analysis 6) has for each class c, y_c = ±1,

    L(y|z) = Π_c exp(−2 max(1 − y_c u_c, 0)),    u_c = w_c · (z, 1),    w_c ~ N(0, I/ρ)

which is not a probability: it does not sum to 1 over y. Its mode under one-vs-rest labels is a
linear SVM with hinge loss and C = 2/ρ. Each factor is a mixture of normal densities in u over
λ > 0, so that with t = 1 − y u, for any r = E[1/λ],

    2 max(t, 0) = |t| + t ≤ ½ (r t² + 1/r) + t,    equal at r = 1/|t|

and w has a closed form for fixed r. As t → 0, r → ∞ and the system becomes singular; so |t|
counts as no less than LEAST, which makes the corner of the hinge a parabola: the bound remains a
bound, at most LEAST/2 too high, and alternating minimisation still never raises it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior
from isthmus.models.codec import Batch
from isthmus.models.labels import NO_LABELS, Labelled, LabelSet

HeadKind = Literal["softmax", "svm"]

DRAWS: Final = 64
"""S, the latents over which p(y|x) is averaged."""

LEAST: Final = 1e-4
"""Distances |1 − y u| below it count as this."""

PRECISION: Final = 2.0
"""ρ, of a weight of the SVM: its C is 1, the usual value."""


class LabelHead(nn.Module, ABC):
    """p(y|z) over C labels.

    Args:
        classes: C.
    """

    log_prior: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("log_prior", torch.full((classes,), -math.log(classes)))

    def start_prior(self, counts: Sequence[int]) -> None:
        """Set p(y) to the counts of the given labels, [C], each at least 1."""
        self.log_prior.copy_(torch.tensor(counts, dtype=torch.double).log().log_softmax(0))

    @abstractmethod
    def scores(self, z: Tensor) -> Tensor:
        """u, one number for each label: [... P] → [... C]."""

    @abstractmethod
    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """−log p(y|z) of given labels: scores [... C], labels [...] → [...], nats."""

    @abstractmethod
    def log_probabilities(self, scores: Tensor) -> Tensor:
        """log p(y|z), summing to 1 over y: [... C] → [... C]."""

    def losses(self, z: Tensor, labels: Tensor) -> Tensor:
        """−log p(y|z) under each of S latents: z [S N P], labels [N] → [S N], nats.

        A missing label (−1) costs 0 and has no gradient.
        """
        own = labels.clamp_min(0).expand(z.shape[:-1])
        losses = self.loss(self.scores(z), own)
        return torch.where(labels >= 0, losses, torch.zeros_like(losses))

    def terms(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``classification``, ``uncertainty`` and ``balance`` of Terms, nats, [N] each.

        Means over the S latents of z [S N P]; labels [N], −1 for a missing one.
        """
        losses = self.losses(z, labels).mean(0)
        log_p = self.log_probabilities(self.scores(z))  # [S N C]
        entropy = -(log_p.exp() * log_p).sum(-1).mean(0)
        average = log_p.flatten(0, 1).exp().mean(0).clamp_min(torch.finfo(log_p.dtype).tiny)
        balance = (average * (average.log() - self.log_prior)).sum()
        return {
            "classification": losses,
            "uncertainty": torch.where(labels < 0, entropy, torch.zeros_like(entropy)),
            "balance": balance.expand(len(losses)),
        }

    def predict(self, z: Tensor) -> Tensor:
        """log 1/S Σ_s p(y|z_s): z [S N P] → [N C]."""
        log_p = self.log_probabilities(self.scores(z))
        return log_p.logsumexp(0).log_softmax(-1)

    def averaged(self, posterior: Posterior) -> Tensor:
        """log E_q(z|x)[p(y|z)], [N C], with the same DRAWS of noise for every example."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(DRAWS, 1, posterior.mean.shape[-1], generator=generator)
        noise = noise.to(posterior.mean.device).expand(-1, len(posterior), -1)
        return self.predict(posterior.rsample(noise=noise))


@final
class SoftmaxHead(LabelHead):
    """p(y|z) ∝ exp(u_y), u linear in z; uniform at the start.

    Args:
        latent_size: P.
        classes: C.
    """

    def __init__(self, latent_size: int, classes: int) -> None:
        super().__init__(classes)
        self.linear = nn.Linear(latent_size, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def scores(self, z: Tensor) -> Tensor:
        """Logits."""
        return self.linear(z)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return -scores.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Of the softmax."""
        return scores.log_softmax(-1)


@final
class BayesianSVMHead(LabelHead):
    """One linear SVM per label against the rest, with the pseudo-likelihood of the module.

    In training with everything else, a step follows the bound at the best r for the present w and
    z, whose gradient is that of the hinge loss; :meth:`fit` finds the best w for fixed latents.

    Args:
        latent_size: P.
        classes: C.
    """

    def __init__(self, latent_size: int, classes: int) -> None:
        super().__init__(classes)
        self.weight = nn.Parameter(torch.zeros(classes, latent_size + 1))

    def scores(self, z: Tensor) -> Tensor:
        """Signed margins; above 0 is "this label"."""
        return functional.linear(z, self.weight[:, :-1], self.weight[:, -1])

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """−log L(y|z): a pseudo-likelihood, so not the length of a code for y."""
        distance = 1 - signs(labels, scores.shape[-1]).to(scores) * scores
        return augmented(distance, rates(distance)).sum(-1)

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """L(y|z) over its sum over the C labels; the most probable has the largest margin."""
        clear = functional.relu(1 + scores) - functional.relu(1 - scores)
        return (2 * clear).log_softmax(-1)  # up to what all labels share

    @torch.no_grad()
    def fit(self, z: Tensor, labels: Tensor, steps: int = 200) -> list[float]:
        """Set w to its mode for fixed latents, by Polson & Scott's EM.

        w_c = (ρ I + Σ_n r_nc z_n z_nᵀ)⁻¹ Σ_n (1 + r_nc) y_nc z_n, in double precision.

        Args:
            z: [N P].
            labels: [N], none missing.
            steps: at most; a step that gains less than 1e-9 of the bound is the last.

        Returns:
            −log L(y|z) p(w) up to the constant of p(w), nats, before each step and at the end.
        """
        rows = functional.pad(z.double(), (0, 1), value=1.0)  # [N P+1]
        sign = signs(labels, len(self.weight)).to(rows)  # [N C]
        weight = self.weight.double()
        ridge = PRECISION * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        values: list[float] = []
        for _ in range(steps + 1):
            distance = 1 - sign * (rows @ weight.T)
            rate = rates(distance)
            penalty = PRECISION / 2 * weight.square().sum()
            values.append((augmented(distance, rate).sum() + penalty).item())
            self.weight.copy_(weight)
            if values[-1] > values[-2:][0] * (1 - 1e-9) and len(values) > 1:
                break
            systems = torch.stack([rows.T @ (own.unsqueeze(1) * rows) for own in rate.T])
            weight = torch.linalg.solve(ridge + systems, ((1 + rate) * sign).T @ rows)
        return values


def signs(labels: Tensor, classes: int) -> Tensor:
    """+1 for the label of each example and −1 for all others, [...] → [... C]."""
    return 2 * functional.one_hot(labels, classes) - 1


def rates(distance: Tensor) -> Tensor:
    """E[1/λ] given 1 − y u, at which the bound is least, without gradient."""
    return 1 / distance.detach().abs().clamp_min(LEAST)


def augmented(distance: Tensor, rate: Tensor) -> Tensor:
    """½ (r t² + 1/r) + t ≥ 2 max(t, 0), nats, of t = 1 − y u and any r > 0."""
    return 0.5 * (rate * distance.square() + 1 / rate) + distance


def label_head(kind: HeadKind, latent_size: int, classes: int) -> LabelHead:
    """The head of this kind, for P latent dimensions and C labels."""
    if kind == "svm":
        return BayesianSVMHead(latent_size, classes)
    return SoftmaxHead(latent_size, classes)


class LabelPredictor(Labelled, ABC):
    """A model that predicts its label, if it has one, from z."""

    labels: LabelHead | None

    @property
    def label_set(self) -> LabelSet:
        """Labels that z predicts."""
        return LabelSet(self.config.label_names)

    def extra_terms(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of p(y|z), for a batch with ``labels`` [N], −1 for a missing one."""
        if self.labels is None or "labels" not in batch:
            return {}
        return self.labels.terms(z, batch["labels"])

    def label_posterior(self, batch: Batch) -> Tensor:
        """log E_q(z|x)[p(y|z)], [N C], x being what is given of each example."""
        if self.labels is None:
            raise IsthmusError(NO_LABELS)
        return self.labels.averaged(self.posterior(batch))
