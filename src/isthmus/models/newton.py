"""The first step of training from a pretrained decoder, in closed form.

The bridge "output" adds a vector c to all hidden states of a text before the output layer, whose
weights are w. There −log p(x) has a gradient −g and, on average over texts, the curvature F:

    g = Σ_t (w_{x_t} − E_p[w]),    F = E Σ_t g_t g_tᵀ   (Fisher information of a text)

One step of Fisher scoring for a linear map from the encoder's state s is F⁻¹ times the ridge
regression of g on s. In units in which F is 1 its predictions have principal components of
variances σ_i². Gradient steps would find these slowly, and meanwhile the price of z drives it out.

Component i, known exactly, is worth σ_i²/2 nats a text; r nats of it, (1 − exp(−2r)) σ_i²/2.
The components share 0.1 nats each by reverse water-filling (Cover & Thomas 2006, theorem 10.3.3):
r_i = max(0, log(σ_i²/λ))/2. They become the means of z, of variance 1 − exp(−2 r_i), under noise
that completes a variance of 1: the aggregate posterior is the prior, and no KL is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

from isthmus.data.kind import sampled
from isthmus.models.base import LatentModel, over_batches
from isthmus.models.bridges import OutputBridge
from isthmus.models.codec import Batch
from isthmus.models.optimus import OptimusModel
from isthmus.models.starting import START_KL
from isthmus.models.tuning import parameter_count
from isthmus.progress import Progress, no_progress

TEXTS: Final = (500, 5_000)
"""Fewest and most texts that the step is computed from."""
WORK: Final = 2**42
"""Parameters of the decoder times tokens that it reads for the step."""
DAMPING: Final = 0.1
"""Added to F, in units of its mean eigenvalue."""
RIDGES: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the regression on states, in units of the mean eigenvalue of their scatter."""
TINY: Final = 1e-9
"""Share of the largest variance below which a component is none."""
LEAST_KL: Final = 1e-3
"""Nats of each dimension: gradients reach those that the step has no use for."""


@final
@dataclass(frozen=True)
class FirstStep:
    """What a first step has done.

    Args:
        texts: that it was computed from.
        dimensions: of z that it uses.
        kl: their KL, nats a text.
        gain: by how much z lowers −log p(x|z), nats a text, to second order and leaving out the
            text at hand in the regression.
    """

    texts: int
    dimensions: int
    kl: float
    gain: float


def texts_for(model: LatentModel, texts: Sequence[str]) -> list[str]:
    """A random sample of training texts that is enough for the step.

    None of a model that the step does not fit: one without the bridge "output" or a pretrained
    decoder, of several latents, with labels, or whose posterior or prior is no independent normal
    distribution.
    """
    if _bridge(model) is None:
        return []
    assert isinstance(model, OptimusModel)
    some = [texts[place] for place in sampled(len(texts), TEXTS[1], 0)]
    lengths = torch.from_numpy(model.codec.prepare(some).lengths)
    tokens = WORK // parameter_count(model.decoder)[0]
    count = max(TEXTS[0], int(tokens / lengths.double().mean()))
    return [some[place] for place in sampled(len(some), count, 0)]


def first_step(
    model: OptimusModel, texts: Sequence[str], progress: Progress = no_progress
) -> FirstStep:
    """Set head and bridge of a new model so that z says what its decoder lacks most.

    Args:
        model: before its training.
        texts: from :func:`texts_for`.
        progress: called with the number of texts just read, by the encoder, then by the decoder.
    """
    part = _bridge(model)
    assert part is not None
    states = model.pooled(texts, progress).double().cpu()
    scores, fisher = text_scores(model, texts, progress)
    root = inverse_root(fisher)
    mean, centre = scores.mean(0), states.mean(0)
    slopes, worth = ridge(states - centre, (scores - mean) @ root)
    variances, directions = torch.linalg.eigh(torch.cov(((states - centre) @ slopes).T))
    everything, size = variances.sum().item(), model.config.latent_size
    variances, directions = variances.flip(0)[:size], directions.flip(1)[:, :size]
    some = variances > TINY * variances[0]
    variances, directions = variances[some], directions[:, some]
    rates = water_filling(variances, START_KL * len(variances)).clamp_min(LEAST_KL)
    told = 1 - (-2 * rates).exp()
    rows = (slopes @ directions / variances.sqrt() * told.sqrt()).T
    columns = root @ directions * (variances * told).sqrt()
    _set_head(model.encoder.head, rows, -(rows @ centre), -2 * rates, size)
    _set_bridge(part, columns, root @ (root @ mean))
    gain = worth * (told @ variances).item() / everything if everything else 0.0
    return FirstStep(len(texts), int((rates > LEAST_KL).sum()), rates.sum().item(), gain)


def _bridge(model: LatentModel) -> OutputBridge | None:
    """The part of the bridge that the step sets, if it fits the model."""
    if not isinstance(model, OptimusModel):
        return None
    config = model.config
    plain = config.posterior == "diagonal" and config.prior == "standard"
    if not plain or config.latents > 1 or config.summary or model.labels is not None:
        return None
    if not config.decoder_pretrained:
        return None
    return next((part for part in model.bridge.modules() if isinstance(part, OutputBridge)), None)


def text_scores(
    model: OptimusModel, texts: Sequence[str], progress: Progress = no_progress
) -> tuple[Tensor, Tensor]:
    """g of each text for z = 0, [N H], and F, [H H], both in double precision."""
    decoder, fisher = model.decoder, torch.zeros(())

    def scores(batch: Batch) -> Tensor:
        nonlocal fisher
        wanted = batch["targets"] >= 0
        zeros = torch.zeros(len(wanted), *model.latent_shape, device=model.device)
        hidden = decoder.hidden(model.conditioning(zeros), batch["decoder_input_ids"])[wanted]
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            losses = decoder.losses(hidden, batch["targets"][wanted])
            [gradients] = torch.autograd.grad(-losses.sum(), hidden)
        found = gradients.double().cpu()
        fisher = fisher + found.T @ found
        owners = wanted.nonzero()[:, 0].cpu()
        return found.new_zeros(len(wanted), found.shape[1]).index_add(0, owners, found)

    found = over_batches(model, model.codec.prepare(texts), scores, progress)
    return found, fisher / len(texts)


def inverse_root(fisher: Tensor) -> Tensor:
    """F^(−1/2) of a damped F, [H H]: scores times it are in units in which F is 1."""
    values, vectors = torch.linalg.eigh(fisher)
    return (vectors * (values + DAMPING * values.mean()).rsqrt()) @ vectors.T


def ridge(states: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
    """The regression of ``wanted`` on states by the penalty that predicts best, shrunk.

    Args:
        states: of mean 0, [N D].
        wanted: of mean 0, [N H], in units in which a prediction p of a row y is worth
            p·y − |p|²/2.

    Returns:
        Slopes [D H], and what their predictions are worth on average, each row left out in turn
        (Cook & Weisberg 1982, 2.2.4), which also finds the factor that they are shrunk by.
    """
    values, vectors = torch.linalg.eigh(states.T @ states)
    turned = states @ vectors
    best, found = -math.inf, torch.zeros(states.shape[1], wanted.shape[1]).to(states)
    for penalty in RIDGES:
        weights = 1 / (values + penalty * values.mean())
        slopes = weights[:, None] * (turned.T @ wanted)
        leverage = ((turned.square() * weights).sum(1) + 1 / len(states)).clamp(max=0.99)[:, None]
        predicted = (turned @ slopes - leverage * wanted) / (1 - leverage)
        along, size = (predicted * wanted).sum().item(), predicted.square().sum().item()
        worth = along**2 / (2 * size * len(states)) if along > 0 else 0.0
        if worth > best:
            best, found = worth, max(0.0, along) / size * (vectors @ slopes)
    return found, best


def water_filling(variances: Tensor, total: float) -> Tensor:
    """r_i = max(0, log(σ_i²/λ))/2 that sum to a total, nats, [P].

    Args:
        variances: σ_i², positive, the largest first, [P].
        total: to share.
    """
    logs = variances.log() / 2
    sums = (logs.cumsum(0) - total) / torch.arange(1, len(logs) + 1).to(logs)
    return (logs - sums.max()).clamp_min(0)


@torch.no_grad()
def _set_head(
    head: nn.Linear, rows: Tensor, constants: Tensor, log_variances: Tensor, size: int
) -> None:
    """Let the first dimensions of P have these means and variances, and the others say little."""
    count = len(rows)
    for values in (head.weight, head.bias):
        values[count:size] *= math.sqrt(LEAST_KL / START_KL)
    head.weight[:count] = rows.to(head.weight)
    head.bias[:count] = constants.to(head.bias)
    head.weight[size : size + count] = 0
    head.bias[size : size + count] = log_variances.to(head.bias)


@torch.no_grad()
def _set_bridge(part: OutputBridge, columns: Tensor, constant: Tensor) -> None:
    part.linear.weight.zero_()
    part.linear.weight[:, : columns.shape[1]] = columns.to(part.linear.weight)
    part.linear.bias.copy_(constant)
