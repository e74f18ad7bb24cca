"""Which control code does a text, or each of its tokens, come from?

    p(c|x) ∝ p(c) p(x|c),    log p(x) = log Σ_c p(c) p(x|c)

The log-likelihoods are sums over tokens. Means over tokens, whose exponential the code of CTRL
prints, rank only texts of the same length, and make no posterior. The posterior measures how
similar a text is to the training texts of each code, not where it is from (Keskar et al. 2019,
section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.evaluation import calibration
from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.noise import example_noise, in_whole
from isthmus.models.base import (
    LatentModel,
    evaluating,
    in_batches,
    over_batches,
)
from isthmus.models.codec import Examples, TextCodec, TextExamples
from isthmus.models.labels import label_set
from isthmus.models.text_model import label_reader
from isthmus.models.workers import HERE, Workers, prepared
from isthmus.progress import Progress, no_progress

CodePrior = Literal["uniform", "stored"]


@final
@dataclass(frozen=True)
class Attribution:
    """The codes of N texts, in main memory, nats.

    Attributes:
        names: of the C codes.
        log_likelihood: log p(x|c), [N C].
        log_prior: log p(c), [C].
    """

    names: tuple[str, ...]
    log_likelihood: Tensor
    log_prior: Tensor

    @property
    def log_posterior(self) -> Tensor:
        """log p(c|x), [N C]."""
        return calibration.posterior(self.log_likelihood, self.log_prior)

    @property
    def log_marginal(self) -> Tensor:
        """log p(x), codes summed out, [N]."""
        return calibration.marginal(self.log_likelihood, self.log_prior)


def attribute(
    model: LatentModel,
    texts: Sequence[str],
    prior: CodePrior | Sequence[float] = "uniform",
    samples: int = 1,
    progress: Progress = no_progress,
    workers: Workers = HERE,
) -> Attribution:
    """Attribute texts to the codes of a model.

    Args:
        model: any text model with labels.
        texts: N of them.
        prior: of the codes: "uniform", as the paper recommends, because the frequencies of the
            training data favour large domains; "stored", these frequencies; or C numbers.
        samples: K of the importance-weighted bound on log p(x|c), for a model with a latent.
        progress: called with the number just done.
        workers: who computes.

    Raises:
        IsthmusError: the model reads no labels, or the prior does not fit them.
    """
    log_prior = code_prior(model, prior)
    examples = model.read(texts)
    found = log_likelihoods(model, examples, samples, progress=progress, workers=workers)
    return Attribution(label_set(model).names, found, log_prior)


def code_prior(model: LatentModel, prior: CodePrior | Sequence[float]) -> Tensor:
    """log p(c), [C], in float64; arguments as for :func:`attribute`."""
    label = label_reader(model).label_input
    names = label.names
    if prior == "stored":
        return label.log_prior.double().cpu()
    if prior == "uniform":
        return torch.full((len(names),), -math.log(len(names)), dtype=torch.double)
    weights = torch.tensor(list(prior), dtype=torch.double)
    if len(weights) != len(names) or not bool((weights > 0).all()):
        raise IsthmusError(
            f"prior: got {list(prior)}, expected {len(names)} numbers above 0, one for each of "
            f"{', '.join(names)}"
        )
    return (weights / weights.sum()).log()


def log_likelihoods(
    model: LatentModel,
    examples: Examples,
    samples: int = 1,
    seed: int = 0,
    places: Sequence[int] | None = None,
    progress: Progress = no_progress,
    workers: Workers = HERE,
) -> Tensor:
    """log p(x|c) of every text under every code, [N C], nats.

    Exact without a latent. With one, log 1/K Σ_k p(x|z_k, c) p(z_k) / q(z_k|x) (Burda et al.
    2016), a lower bound in expectation, the same draws for all codes.

    Args:
        model: reads labels.
        examples: N texts, prepared by its codec; their own labels are not read.
        samples: K.
        seed: of the draws.
        places: of the codes, −1 for the null code; all if absent.
        progress: called with the number just done.
        workers: who computes.
    """
    label_reader(model)
    work = partial(_part_likelihoods, samples=samples, seed=seed, codes=places)
    [found] = workers.map(work, model, examples, progress=progress)
    return found


@torch.no_grad()
def _part_likelihoods(
    model: LatentModel,
    examples: Any,
    places: Sequence[int],
    *,
    samples: int,
    seed: int,
    codes: Sequence[int] | None,
    progress: Progress,
) -> tuple[Tensor]:
    """log p(x|c) of some texts under the codes."""
    reader = label_reader(model)
    parts, order = [], []
    with evaluating(model):
        for indices, batch in in_batches(model, prepared(model, examples), progress):
            posterior = model.posterior(batch)
            number = samples if math.prod(model.latent_shape) else 1
            here = in_whole(places, indices)
            noise = example_noise(seed, EVALUATION_STREAM, here, (number, *model.latent_shape))
            z = posterior.rsample(noise=noise.transpose(0, 1).to(model.device))  # [K N P]
            losses = reader.label_token_losses(z, batch, codes).sum(-1).double()  # [C K N]
            ratio = posterior.log_prob(z) - model.prior.log_prob(z)
            weights = (-losses - ratio).logsumexp(1) - math.log(number)
            parts.append(weights.T.cpu())
            order += indices
    return (torch.cat(parts)[torch.tensor(order).argsort()],)


@final
@dataclass(frozen=True)
class TokenAttribution:
    """The codes of the T predicted tokens of one text, nats.

    Attributes:
        tokens: what each adds to the text; the end token adds nothing.
        log_likelihood: log p(x_t|x_<t, c), [T C].
        log_posterior: log p(c|x_≤t), the belief after each token, [T C].
    """

    tokens: tuple[str, ...]
    log_likelihood: Tensor
    log_posterior: Tensor

    @property
    def evidence(self) -> Tensor:
        """log p(x_t|x_<t, c) less its mean over the codes, [T C]: which codes a token favours."""
        return self.log_likelihood - self.log_likelihood.mean(1, keepdim=True)


def attribute_tokens(
    model: LatentModel, texts: Sequence[str], prior: CodePrior | Sequence[float] = "uniform"
) -> list[TokenAttribution]:
    """Attribute each token of texts, at the mean of q(z|x); arguments as for :func:`attribute`."""
    reader, log_prior = label_reader(model), code_prior(model, prior)
    examples = reader.read(texts)
    assert isinstance(examples, TextExamples)
    longest = int(examples.predicted.max())

    def losses(batch: dict[str, Tensor]) -> Tensor:
        mean = model.posterior(batch).mean.unsqueeze(0)
        found = reader.label_token_losses(mean, batch)[:, 0].permute(1, 2, 0)  # [N T C]
        return torch.nn.functional.pad(found, (0, 0, 0, longest - found.shape[1]))

    with evaluating(model):
        log_likelihood = -over_batches(model, examples, losses).double()
    found = []
    for index, row in enumerate(log_likelihood):
        ids = examples.decoder_tokens[index][1:].tolist()
        pieces = _pieces(examples.codec, ids)
        each = row[: len(ids)]
        believed = (log_prior + each.cumsum(0)).log_softmax(-1)
        found.append(TokenAttribution(pieces, each, believed))
    return found


def _pieces(codec: TextCodec, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token adds to the text, spaces included; the end token adds nothing.

    A character of several tokens comes with its last one.
    """
    ended = codec.decoder_special.end is not None
    words = ids[:-1] if ended else ids
    pieces, before = [], ""
    for text in codec.text([words[: place + 1] for place in range(len(words))]):
        whole = "" if text.endswith("\ufffd") else text[len(before) :]
        pieces.append(whole)
        before += whole
    return (*pieces, "") if ended else tuple(pieces)


def code_metrics(
    model: LatentModel,
    examples: Examples,
    found: Tensor | None,
    labels: Sequence[str] | None,
    seed: int,
) -> dict[str, Any]:
    """How well the model knows the texts of each code, and how well its posterior is calibrated.

    Args:
        model: reads given labels.
        examples: N texts.
        found: their :func:`log_likelihoods`, [N C]; only read with labels.
        labels: their true codes, if known.
        seed: of the draws of z, one per text.

    Returns:
        ``null_nll`` if there is a null code; with labels ``labels_unknown`` (texts whose label
        the model does not have, left out of what follows), ``per_label`` (for each code its
        number of sentences and ``nll``, −log p(x|c) of those, nats per sentence; with a latent a
        bound), ``attribution_accuracy`` under a uniform prior, ``calibration_error`` (ECE) of the
        posterior under the stored prior with that of a perfect one, ``brier_score``.
    """
    metrics: dict[str, Any] = {}
    known = label_set(model)
    if known.null_code:
        null = log_likelihoods(model, examples, seed=seed, places=[-1])
        put(metrics, "null_nll", Estimate.mean_of(-null[:, 0]))
    if labels is None or found is None:
        return metrics
    assert isinstance(examples, TextExamples)
    rows = [row for row, label in enumerate(labels) if label in known.names]
    if len(rows) < len(labels):
        metrics["labels_unknown"] = len(labels) - len(rows)
    if not rows:
        return metrics
    truth = torch.tensor([known.names.index(labels[row]) for row in rows])
    tokens, found = torch.from_numpy(examples.predicted).double()[rows], found[rows]
    own = -found.gather(1, truth.unsqueeze(1))[:, 0]
    metrics["per_label"] = {
        name: _of_one(own[truth == place], tokens[truth == place])
        for place, name in enumerate(known.names)
        if (truth == place).any()
    }
    stored = calibration.posterior(found, code_prior(model, "stored"))
    error = calibration.expected_calibration_error(stored, truth)
    put(metrics, "attribution_accuracy", Estimate.mean_of((found.argmax(-1) == truth).double()))
    put(metrics, "calibration_error", error)
    put(metrics, "calibration_error_if_perfect", calibration.calibrated_error(stored))
    put(metrics, "brier_score", calibration.brier_score(stored, truth))
    return metrics


def _of_one(losses: Tensor, tokens: Tensor) -> dict[str, float | int | None]:
    """The figures of one code."""
    mean = Estimate.mean_of(losses)
    return {
        "sentences": mean.count,
        "nll": mean.value,
        "nll_se": mean.standard_error,
        "nll_per_token": (losses.sum() / tokens.sum()).item(),
    }
