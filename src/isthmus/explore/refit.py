"""Replace the prior of a trained model by one that fits its aggregate posterior."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from isthmus.errors import IsthmusError
from isthmus.latent.prior import fit_prior
from isthmus.models.base import LatentModel, build_prior, encode_examples, evaluating
from isthmus.settings.choices import PriorKind


def refit(
    model: LatentModel,
    texts: Sequence[Any],
    kind: PriorKind,
    components: int = 64,
    steps: int = 1000,
    seed: int = 0,
) -> list[float]:
    """Fit a prior of another kind to q(z) over ``texts`` and put it into the model.

    Args:
        model: trained; its configuration names the new prior afterwards.
        texts: the training texts (or pictures), or a sample of them.
        kind: any with parameters.
        components: of the mixture, or pseudo-inputs of VampPrior.
        steps: optimiser steps of the fit.
        seed: of the fit.

    Returns:
        −log p(z) of every step, nats.
    """
    pseudo_inputs = getattr(model, "random_pseudo_inputs", None)
    if pseudo_inputs is None or model.config.latents != 1:
        raise IsthmusError(
            "a prior can be fitted to models of texts or of pictures, with one latent vector per "
            "example"
        )
    torch.manual_seed(seed)
    with evaluating(model):
        posterior = encode_examples(model, model.read(texts))
        config = copy.deepcopy(model.config)
        config.prior, config.prior_components = kind, components
        module = build_prior(config, pseudo_inputs)
        losses = fit_prior(
            module.to(model.device), posterior, model.pseudo_posterior, steps=steps, seed=seed
        )
    # Only now: a fit that fails leaves the model as it was.
    model.config.prior, model.config.prior_components = kind, components
    model.prior_module = module
    return losses
