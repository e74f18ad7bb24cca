"""Replace the prior of a trained model by one that fits its aggregate posterior."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.fit import draw, fit_prior
from isthmus.latent.prior_module import PriorModule
from isthmus.models.base import (
    LatentModel,
    encode_examples,
    evaluating,
    summarised,
)
from isthmus.models.config import LatentConfig, build_prior
from isthmus.progress import Progress, no_progress
from isthmus.settings.choices import PriorKind

HELD_OUT = 2_000
"""Examples, at most, that a fit is judged on."""
TRAINING = 40_000
"""Examples, at most, that :func:`fit_best` fits to."""
_AT_ONCE = 2_000
"""Examples that are encoded between two looks at the clock."""
_BATCH = 256
_SHARES: Final = {
    "gaussian": 0.0,
    "calm": 6.0,
    "recurrent": 6.0,
    "flow-matching": 3.0,
    "flow": 2.0,
    "mixture": 1.0,
    "vamp": 1.0,
}
"""The kinds that :func:`fit_best` tries, in this order, with their parts of the time."""
_WIDEST: Final = {"flow": 256, "flow-matching": 512, "recurrent": 256, "calm": 192}
"""Of a prior's networks; 64 or four times the numbers of a latent if that is less."""
_MOST_NUMBERS: Final = {"gaussian": 4_096, "flow": 1_024, "flow-matching": 4_096}
"""K·P up to which a kind is tried: a step of theirs grows with its square or faster."""
_CODES = 2_048
"""Components of the autoregressive prior, which all latents of a text share."""


@final
@dataclass(frozen=True)
class Tried:
    """A prior that was fitted, and how it did.

    Args:
        kind: of :data:`isthmus.latent.prior.PRIORS`.
        steps: of its fit; 0 for the prior that the model had, and for a closed form.
        hidden_size: width of the networks of a flow.
        seconds: that the fit took.
        kl: mean of log q(z|x) − log p(z) over held-out examples, one draw each, nats; NaN if the
            fit failed.
        standard_error: of the mean.
        fault: why there is no figure; empty if there is one.
    """

    kind: str
    steps: int = 0
    hidden_size: int = 0
    seconds: float = 0.0
    kl: float = math.nan
    standard_error: float = math.nan
    fault: str = ""


def refit(
    model: LatentModel,
    texts: Sequence[Any],
    kind: PriorKind,
    components: int = 64,
    steps: int = 1000,
    seed: int = 0,
    held_out: Sequence[Any] | None = None,
) -> list[float]:
    """Fit a prior of another kind to q(z) over ``texts`` and put it into the model.

    Of a model with two levels it is the prior of the summary, as everywhere in this module; that
    of the details stays N(0, I).

    Of the priors that the fit passes, the one that is best on texts held out is kept; see
    :func:`isthmus.latent.fit.fit_prior`.

    Args:
        model: trained; its configuration names the new prior afterwards.
        texts: the training texts (or pictures), or a sample of them.
        kind: any with parameters.
        components: of the mixture, or pseudo-inputs of VampPrior.
        steps: optimiser steps of the fit.
        seed: of the fit.
        held_out: other texts; a tenth of ``texts`` if absent.

    Returns:
        −log p(z) on the texts held out, at the start and ten times on the way, nats.
    """
    _check(model)
    with evaluating(model), summarised(model):
        posterior = _encoded(model, texts, len(texts), seed)
        if held_out is not None:
            judged = _encoded(model, held_out, HELD_OUT, seed)
        elif apart := min(HELD_OUT, len(posterior) // 10):
            judged, posterior = posterior[:apart], posterior[apart:]
        else:
            judged = posterior
        config = _configured(model, kind, components)
        module = _built(model, config, seed)
        found = fit_prior(
            module,
            posterior,
            model.pseudo_posterior,
            held_out=judged,
            steps=steps,
            seed=seed,
        )
    _put(model, config, module)
    return found.losses


def fit_best(
    model: LatentModel,
    train_examples: Sequence[Any],
    valid_examples: Sequence[Any],
    minutes: float = 1.0,
    seed: int = 0,
    progress: Progress = no_progress,
    components: int = 64,
) -> list[Tried]:
    """Fit every kind of prior to q(z), and keep the one with the lowest KL on other examples.

    The time is divided between encoding, which gets half of it at most, and the kinds. Each fit is
    set by the number of its steps, which its speed decides once; with them and the seed it can be
    repeated. Encoder and decoder stay as they are.

    Args:
        model: trained; its configuration names the best prior afterwards.
        train_examples: texts (or pictures), as :meth:`LatentModel.encode` takes them. A random
            part is used if there are many.
        valid_examples: others, to choose on.
        minutes: for everything.
        seed: of the choice of examples, the starts and the draws.
        progress: called with the number of examples just encoded.
        components: of the mixture, and pseudo-inputs of the VampPrior.

    Returns:
        The prior that the model had, and every kind, with their figures; the best, which the model
        has now, is first.
    """
    _check(model)
    begun, budget = time.monotonic(), 60 * minutes
    with evaluating(model), summarised(model):
        held_out = _encoded(model, valid_examples, HELD_OUT, seed, progress=progress)
        until = begun + budget / 2
        posterior = _encoded(model, train_examples, TRAINING, seed, until, progress)
        own = _judged(Tried(model.config.prior), model.prior, held_out, seed, model.device)
        kinds, tried = _kinds(model)
        tried.append(own)
        best, module = model.config, model.prior_module
        while kinds:
            kind, share = next(iter(kinds.items()))
            left = begun + budget - time.monotonic()
            if share and left <= 0:
                tried += [Tried(late, fault="no time was left") for late in kinds]
                break
            config = _configured(model, kind, components)
            seconds = share and left * share / sum(kinds.values())
            row, fitted = _tried(model, config, posterior, held_out, seconds, seed)
            lowest = min((one.kl for one in tried if not one.fault), default=math.inf)
            if fitted is not None and row.kl < lowest:
                best, module = config, fitted
            tried.append(row)
            del kinds[kind]
    _put(model, best, module)
    tried.sort(key=lambda one: math.inf if one.fault else one.kl)
    return tried


def _kinds(model: LatentModel) -> tuple[dict[PriorKind, float], list[Tried]]:
    """The kinds to try with their parts of the time, and those that would take too long."""
    shares: dict[PriorKind, float] = dict(_SHARES)
    if not hasattr(model, "random_pseudo_inputs") or model.only_summary:
        del shares["vamp"]  # of a summary: far behind after a hundred steps, each a pass
    # Nothing comes before a single latent: it would be a mixture. Those of a summary are pieces of
    # one vector, in no order.
    if len(model.latent_shape) == 1 or model.only_summary:
        del shares["recurrent"], shares["calm"]
    numbers, dear = math.prod(model.latent_shape), []
    for kind, most in _MOST_NUMBERS.items():
        if numbers > most:
            del shares[kind]
            fault = f"{numbers:,} numbers in a latent would take it too long; at most {most:,}"
            dear.append(Tried(kind, fault=fault))
    return shares, dear


def _tried(
    model: LatentModel,
    config: LatentConfig,
    posterior: Posterior,
    held_out: Posterior,
    seconds: float,
    seed: int,
) -> tuple[Tried, PriorModule | None]:
    """A prior that was fitted for some seconds, none for a closed form."""
    begun = time.monotonic()
    try:
        module = _built(model, config, seed)
        fit = fit_prior(
            module,
            posterior,
            model.pseudo_posterior,
            held_out=held_out,
            steps=0,
            seconds=seconds or None,
            seed=seed,
        )
    except IsthmusError as error:  # a package that is missing, or a flow too wild to solve
        return Tried(config.prior, fault=str(error)), None
    row = Tried(
        config.prior,
        fit.steps,
        config.prior_hidden_size if config.prior in _WIDEST else 0,
        time.monotonic() - begun,
    )
    return _judged(row, module(model.pseudo_posterior), held_out, seed, model.device), module


@torch.no_grad()
def _judged(
    row: Tried, prior: Prior, held_out: Posterior, seed: int, device: torch.device
) -> Tried:
    """The row with log q(z|x) − log p(z) at one draw of each held-out posterior."""
    z = draw(held_out, torch.Generator().manual_seed(seed))
    log_prior = [prior.log_prob(part.to(device)).cpu() for part in z.split(_BATCH)]
    ratio = (held_out.log_prob(z) - torch.cat(log_prior)).double()
    if not ratio.isfinite().all():
        return replace(row, fault="its log p(z) is not finite")
    error = ratio.std().item() / len(ratio) ** 0.5 if len(ratio) > 1 else math.nan
    return replace(row, kl=ratio.mean().item(), standard_error=error)


def _encoded(
    model: LatentModel,
    examples: Sequence[Any],
    most: int,
    seed: int,
    until: float = math.inf,
    progress: Progress = no_progress,
) -> Posterior:
    """q(z|x) of some examples in random order: as many as there is time for, at least 2,000."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    parts: list[Posterior] = []
    for rows in order[:most].split(_AT_ONCE):
        if parts and time.monotonic() > until:
            break
        # Not model.read, which says for every part what of it is cut: training has said so.
        chosen = model.codec.prepare([examples[row] for row in rows.tolist()])
        parts.append(encode_examples(model, chosen, progress))
    return Posterior.concatenate(parts)


def _check(model: LatentModel) -> None:
    if model.modalities or not math.prod(model.latent_shape):
        raise IsthmusError(
            "a prior can be fitted to models of texts or of pictures that have a latent"
        )
    if model.family.is_discrete:
        raise IsthmusError(
            f"prior: this run's latents are discrete, and the prior {model.config.prior} belongs "
            "to them; train longer instead"
        )


def _configured(model: LatentModel, kind: PriorKind, components: int) -> LatentConfig:
    """The configuration with another prior, sized by the numbers of a latent."""
    config = copy.deepcopy(model.config)
    config.prior, config.prior_components, config.prior_whitened = kind, components, kind == "flow"
    if kind == "recurrent":
        config.prior_components = max(components, _CODES)
    if kind in _WIDEST:
        config.prior_hidden_size = min(_WIDEST[kind], max(64, 4 * math.prod(model.latent_shape)))
    return config


def _built(model: LatentModel, config: LatentConfig, seed: int) -> PriorModule:
    """A prior at its start, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_prior(config, getattr(model, "random_pseudo_inputs", None))
    return module.to(model.device)


def _put(model: LatentModel, config: LatentConfig, module: PriorModule) -> None:
    """Give the model its prior; only now, so that a fit that fails leaves it as it was."""
    for name in ("prior", "prior_components", "prior_hidden_size", "prior_whitened"):
        setattr(model.config, name, getattr(config, name))
    model.prior_module = module
