"""Which control code does a text, or each of its tokens, come from?

    p(c|x) ∝ p(c) p(x|c),    log p(x) = log Σ_c p(c) p(x|c)

The log-likelihoods are sums over tokens: means, of which the code of CTRL prints the exponential,
rank texts of one length alike and make no posterior. It measures a likeness to what the model was
trained on, not where a text is from (Keskar et al. 2019, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.evaluation import calibration
from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.evaluation.usage import Estimate
from isthmus.latent.noise import example_noise
from isthmus.models.base import (
    NO_LABELS,
    LatentModel,
    evaluating,
    over_batches,
    to_device,
    tokens_at_once,
)
from isthmus.models.codec import Examples, TextCodec, TextExamples
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
        """Log p(c|x), [N C]."""
        return calibration.posterior(self.log_likelihood, self.log_prior)

    @property
    def log_marginal(self) -> Tensor:
        """Log p(x), codes summed out, [N]."""
        return calibration.marginal(self.log_likelihood, self.log_prior)


def attribute(
    model: LatentModel,
    texts: Sequence[str],
    prior: CodePrior | Sequence[float] = "uniform",
    samples: int = 1,
    progress: Progress = no_progress,
) -> Attribution:
    """Attribute texts to the codes of a model.

    Arguments:
        model: any text model with labels.
        texts: N of them.
        prior: of the codes: "uniform", as the paper recommends (the frequencies of the training
            data give large domains too much); "stored", these frequencies; or numbers.
        samples: K of the importance-weighted bound on log p(x|c), where there is a latent.
        progress: called with the number just done.

    Raises:
        IsthmusError: the model has no labels, or the prior does not fit them.
    """
    examples = model.codec.prepare(texts)
    found = log_likelihoods(model, examples, samples, progress=progress)
    return Attribution(model.config.label_names, found, code_prior(model, prior))


def code_prior(model: LatentModel, prior: CodePrior | Sequence[float]) -> Tensor:
    """Log p(c) of that kind, [C], in float64."""
    names = model.config.label_names
    if not names:
        raise IsthmusError(NO_LABELS)
    if prior == "stored":
        return model.label_log_prior().double().cpu()
    if prior == "uniform":
        return torch.full((len(names),), -math.log(len(names)), dtype=torch.double)
    weights = torch.tensor(list(prior), dtype=torch.double)
    if len(weights) != len(names) or not bool((weights > 0).all()):
        raise IsthmusError(
            f"prior: got {list(prior)}, expected {len(names)} numbers above 0, one for each of "
            f"{', '.join(names)}"
        )
    return (weights / weights.sum()).log()


@torch.no_grad()
def log_likelihoods(
    model: LatentModel,
    examples: Examples,
    samples: int = 1,
    seed: int = 0,
    places: Sequence[int] | None = None,
    progress: Progress = no_progress,
) -> Tensor:
    """Log p(x|c) of every text under every code, [N C], nats.

    Exact without a latent. With one it is log 1/K Σ_k p(x|z_k, c) p(z_k) / q(z_k|x) (Burda et al.
    2016), a lower bound in expectation, the same draws for all codes.

    Arguments:
        model: with labels.
        examples: N texts, prepared by its codec; labels that they may have are not read.
        samples: K.
        seed: of the draws.
        places: of the codes, −1 for the null code; all if absent.
        progress: called with the number just done.
    """
    parts, order = [], []
    with evaluating(model):
        for indices in examples.batches(tokens_at_once(model)):
            batch = to_device(examples.collate(indices), model.device)
            posterior = model.posterior(batch)
            number = samples if math.prod(model.latent_shape) else 1
            noise = example_noise(seed, EVALUATION_STREAM, indices, (number, *model.latent_shape))
            z = posterior.rsample(noise=noise.transpose(0, 1).to(model.device))  # [K N P]
            losses = model.label_token_losses(z, batch, places).sum(-1).double()  # [C K N]
            ratio = posterior.log_prob(z) - model.prior.log_prob(z)
            weights = (-losses - ratio).logsumexp(1) - math.log(number)
            parts.append(weights.T.cpu())
            order += indices
            progress(len(indices))
    return torch.cat(parts)[torch.tensor(order).argsort()]


@final
@dataclass(frozen=True)
class TokenAttribution:
    """The codes of the T predicted tokens of one text, nats.

    Attributes:
        tokens: what each adds to the text; the end token adds nothing.
        log_likelihood: log p(x_t|x_<t, c), [T C].
        log_posterior: log p(c|x_≤t), what is believed after each token, [T C].
    """

    tokens: tuple[str, ...]
    log_likelihood: Tensor
    log_posterior: Tensor

    @property
    def evidence(self) -> Tensor:
        """Log p(x_t|x_<t, c) less its mean over the codes, [T C]: what each token speaks for."""
        return self.log_likelihood - self.log_likelihood.mean(1, keepdim=True)


def attribute_tokens(
    model: LatentModel, texts: Sequence[str], prior: CodePrior | Sequence[float] = "uniform"
) -> list[TokenAttribution]:
    """Attribute each token of texts; with a latent, at the mean of q(z|x).

    Arguments and errors as for :func:`attribute`.
    """
    log_prior = code_prior(model, prior)
    examples = model.codec.prepare(texts)
    assert isinstance(examples, TextExamples)
    longest = int(examples.predicted.max())

    def losses(batch: dict[str, Tensor]) -> Tensor:
        mean = model.posterior(batch).mean.unsqueeze(0)
        found = model.label_token_losses(mean, batch)[:, 0].permute(1, 2, 0)  # [N T C]
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
    examples: TextExamples,
    found: Tensor | None,
    labels: Sequence[str] | None,
    seed: int,
) -> dict[str, Any]:
    """How well the texts of each code are known, and how far the posterior can be believed.

    Arguments:
        model: with labels that are given.
        examples: N texts.
        found: their :func:`log_likelihoods`, [N C]; only read with labels.
        labels: their true codes, if they are known.
        seed: of the draws of z, one a text.

    Returns:
        ``null_nll`` where there is a null code; with labels ``labels_unknown`` (texts whose label
        the model does not have, left out of what follows), ``per_label`` (of each code its
        sentences and ``nll``, −log p(x|c) of those, nats per sentence; with a latent a bound),
        ``attribution_accuracy`` under a uniform prior, ``calibration_error`` (ECE) of the
        posterior under the stored one beside that of a perfect one, ``brier_score``.
    """
    metrics: dict[str, Any] = {}
    if model.config.null_code:
        null = log_likelihoods(model, examples, seed=seed, places=[-1])
        metrics |= _told("null_nll", Estimate.mean_of(-null[:, 0]))
    if labels is None or found is None:
        return metrics
    names = model.config.label_names
    known = [place for place, label in enumerate(labels) if label in names]
    if len(known) < len(labels):
        metrics["labels_unknown"] = len(labels) - len(known)
    if known:
        truth = torch.tensor([names.index(labels[place]) for place in known])
        tokens = torch.from_numpy(examples.predicted).double()[known]
        metrics |= _judged(found[known], truth, tokens, names, code_prior(model, "stored"))
    return metrics


def _judged(
    found: Tensor, truth: Tensor, tokens: Tensor, names: Sequence[str], log_prior: Tensor
) -> dict[str, Any]:
    """Log-likelihoods [N C] beside the true codes [N] of texts of so many tokens [N]."""
    own = -found.gather(1, truth.unsqueeze(1))[:, 0]
    per_label = {
        name: _of_one(own[truth == place], tokens[truth == place])
        for place, name in enumerate(names)
        if (truth == place).any()
    }
    stored = calibration.posterior(found, log_prior)
    right = (found.argmax(-1) == truth).double()
    error = calibration.expected_calibration_error(stored, truth)
    return {
        "per_label": per_label,
        **_told("attribution_accuracy", Estimate.mean_of(right)),
        **_told("calibration_error", error),
        **_told("calibration_error_if_perfect", calibration.calibrated_error(stored)),
        **_told("brier_score", calibration.brier_score(stored, truth)),
    }


def _told(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name}_se": estimate.standard_error}


def _of_one(losses: Tensor, tokens: Tensor) -> dict[str, float | int | None]:
    """The figures of one code."""
    mean = Estimate.mean_of(losses)
    return {
        "sentences": mean.count,
        "nll": mean.value,
        "nll_se": mean.standard_error,
        "nll_per_token": (losses.sum() / tokens.sum()).item(),
    }
