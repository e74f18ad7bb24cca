"""The configuration of every model with a latent, and the prior that it names.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

import copy
from collections.abc import Callable
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import PreTrainedConfig

from isthmus.latent.prior import PRIORS
from isthmus.latent.prior_module import PriorModule, PriorSizes
from isthmus.settings.choices import PriorKind


@strict
class LatentConfig(PreTrainedConfig):
    """The configuration of every model with a latent.

    Args:
        latent_size: P; 0 for a plain language model.
        latents: K, latents per example; 1 for a single vector.
        summary: G, how many of the K latents, the first, sum an example up; the others are its
            details, and say nothing where they are zero. 0 for one level.
        prior: a kind of :data:`isthmus.latent.prior.PRIORS`.
        prior_components: components of the mixture, pseudo-inputs of VampPrior, or entries of the
            codebook.
        prior_length: tokens of a pseudo-input.
        prior_transforms: transforms of the spline flow.
        prior_hidden_size: width of the networks of a flow.
        prior_whitened: whether the spline flow begins with an affine map, as fitted ones do.
    """

    latent_size: int = 32
    latents: int = 1
    summary: int = 0
    prior: PriorKind = "standard"
    prior_components: int = 64
    prior_length: int = 12
    prior_transforms: int = 3
    prior_hidden_size: int = 64
    prior_whitened: bool = False

    def __post_init__(self, **settings: Any) -> None:
        # transformers chooses the attention of the parts again, and with it whether their padding
        # is masked; that must not happen to the configuration of an existing model.
        for part in self.sub_configs_defaults:
            setattr(self, part, copy.deepcopy(getattr(self, part)))
        super().__post_init__(**settings)


def build_prior(
    config: LatentConfig, pseudo_inputs: Callable[[int], Tensor] | None = None
) -> PriorModule:
    """The prior that a configuration names.

    Args:
        config: the model's configuration.
        pseudo_inputs: makes K inputs [K L E] of the encoder, where a VampPrior starts.
    """
    size = config.latent_size
    return PRIORS[config.prior](
        PriorSizes(
            (config.summary or config.latents, size) if config.latents > 1 else (size,),
            config.prior_components,
            config.prior_transforms,
            config.prior_hidden_size,
            pseudo_inputs,
            config.prior_whitened,
        )
    )
