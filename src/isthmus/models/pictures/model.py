"""A variational auto-encoder of pictures on the interface that texts have.

Without postponed annotations: @strict checks types, not strings.
"""

import math
from typing import ClassVar, Literal, final

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.data.pictures.shapes import Fit
from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.codec import Batch
from isthmus.models.config import build_prior
from isthmus.models.generation import Generation
from isthmus.models.labels import LabelledConfig
from isthmus.models.pictures.codec import Binarisation, PictureCodec
from isthmus.models.pictures.label_heads import HeadKind, LabelPredictor, label_head
from isthmus.models.pictures.likelihood import LIKELIHOODS, LikelihoodKind
from isthmus.models.pictures.networks import NetworkKind, Sizes, networks

Scale = Literal["each", "one"]

FIRST_LOG_SCALE = -2.0
"""Where one scale for all begins, of values from −1 to 1."""


@strict
class PictureConfig(LabelledConfig):
    """Everything that rebuilds the model without its weights, and that reads pictures for it.

    Args:
        channels, height, width: Of the pictures.
        network: "mlp", "conv", "residual", "deconv" or "strided", see
            :mod:`isthmus.models.pictures.networks`.
        hidden_size, layers: See :class:`isthmus.models.pictures.networks.Sizes`.
        likelihood: "bernoulli", "logistic" or "gaussian", see
            :mod:`isthmus.models.pictures.likelihood`.
        binarisation: How grey pictures become binary for "bernoulli".
        fit: What becomes of pictures of another size in DATA.
        label_head: "softmax" or "svm": p(y|z) where there are ``labels``, see
            :mod:`isthmus.models.pictures.label_heads`.
        scale: Whose the scale of "logistic" and "gaussian" is, "each" value's or "one" for all, a
            parameter (Kingma et al. 2016). Where backgrounds are the same in many pictures, each
            value's own scale makes their last details outweigh all that differs.
    """

    model_type = "isthmus-picture"

    channels: int = 1
    height: int = 28
    width: int = 28
    network: NetworkKind = "mlp"
    hidden_size: int = 512
    layers: int = 2
    likelihood: LikelihoodKind = "bernoulli"
    binarisation: Binarisation = "sampled"
    fit: Fit = "skip"
    label_head: HeadKind = "softmax"
    scale: Scale = "each"


@final
class PictureModel(LabelPredictor):
    """q(z|x) and p(x|z) of pictures by two networks; with labels p(y|z) by a third.

    Args:
        config: Sizes and kinds; the codec follows from it.
    """

    config_class = PictureConfig
    config: PictureConfig
    codec: PictureCodec
    symbols_a_token: ClassVar[int] = 256

    def __init__(self, config: PictureConfig) -> None:
        super().__init__(config)
        if config.latents != 1:
            raise IsthmusError(
                f"latents: got {config.latents}, a model of pictures has one latent vector"
            )
        self.likelihood = LIKELIHOODS[config.likelihood]
        self.log_scale = None
        if config.scale == "one" and self.likelihood.parameters > 1:
            self.log_scale = nn.Parameter(torch.full((1,), FIRST_LOG_SCALE))
        sizes = Sizes(
            *self.shape,
            config.latent_size,
            config.hidden_size,
            config.layers,
            self.likelihood.parameters if self.log_scale is None else 1,
        )
        self.encoder, self.decoder = networks(config.network, sizes)
        self.labels = None
        if names := config.label_names:
            self.labels = label_head(config.label_head, config.latent_size, len(names))
        self.prior_module = build_prior(config, self.random_pseudo_inputs)
        binary = config.likelihood == "bernoulli"
        self.codec = PictureCodec(
            self.shape, config.binarisation if binary else None, config.label_names
        )
        self.finish_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """The networks have initialised themselves."""

    def freeze(self) -> None:
        """Everything is trained."""

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """q(z|x) of the levels of a batch, ``targets`` [N D]."""
        return self.pseudo_posterior(self.values(batch["targets"]))

    def values(self, levels: Tensor) -> Tensor:
        """Levels as numbers from −1 to 1."""
        dtype = next(self.encoder.parameters()).dtype
        return levels.to(dtype, copy=True).mul_(2 / (self.likelihood.levels - 1)).sub_(1)

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """q(z|u) of pseudo-inputs [K D], values around −1 … 1."""
        return DiagonalGaussian(*self.encoder(pseudo_inputs).chunk(2, dim=-1))

    def random_pseudo_inputs(self, count: int) -> Tensor:
        """Where pseudo-inputs of a VampPrior start: faint noise around mid-grey, [K D]."""
        return 0.1 * torch.randn(count, math.prod(self.shape))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.config.channels, self.config.height, self.config.width

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x|z) of whole pictures: z [S N P] → [S N], nats."""
        return self.likelihood.losses(self.network(z), batch["targets"]).sum(-1)

    def network(self, z: Tensor) -> Tensor:
        """The likelihood's parameters, [... P] → [... parameters·D], in float32 or better."""
        rows = z.to(next(self.decoder.parameters()).dtype).flatten(0, -2)
        network = self.decoder(rows).unflatten(0, z.shape[:-1])
        if self.log_scale is not None:
            network = torch.cat([network, self.log_scale.to(network).expand_as(network)], -1)
        return network.to(torch.promote_types(network.dtype, torch.float32))

    def draw(self, z: Tensor, generation: Generation) -> list[NDArray[np.uint8]]:
        """Pictures [C H W] for latents [N P], levels 0 … 255.

        What p(x|z) typically is (the mean of a Bernoulli as grey, the median of the others), or
        with ``generation.sample`` a draw from it.

        Raises:
            IsthmusError: A setting that only texts have.
        """
        if generation != Generation(
            generation.max_new_tokens, generation.sample, seed=generation.seed
        ):
            raise IsthmusError(
                "temperature, top-k, top-p, beams and label choose among tokens, and pictures "
                "have none; leave them out"
            )
        show = self.likelihood.draw if generation.sample else self.likelihood.typical
        levels = show(self.network(z)).round().to(torch.uint8).cpu().numpy()
        return list(levels.reshape(-1, *self.shape))
