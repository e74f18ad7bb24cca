"""One latent z behind several kinds of data: a picture, its caption, and perhaps a label.

    p(z) Π_m p(x_m|z) p(y|z),    q(z|x) ∝ p(z) Π_m q_m(z|x_m) over the parts m that are read

The posterior is a product of Gaussian experts, one for every part, with the prior as one more
(Wu & Goodman 2018, MVAE, arXiv 1802.05335, section 2.2): a part that is missing leaves its expert
out, so any set of parts can be encoded. It is exact where every p(z|x_m) is Gaussian.

Training draws for each example one of the non-empty sets of its parts, and reads z from that set
alone while all its parts are predicted. Every such term is a bound on log p of all of them, and
their mean is the bound of a posterior that mixes the products of all sets, with the mixture's KL
bounded by the mean of the KLs (Sutter et al. 2021, MoPoE-VAE, arXiv 2105.02470). So every part
can be decoded from every other, as :meth:`JointModel.draw` promises. MVAE's own sub-sampled terms
predict from a set only that set.

A label y is predicted from z, as with pictures alone (Pu et al. 2016, arXiv 1609.08976), and
q(z|x) does not read it: at test time it is the unknown, and from a label alone q(z) would be the
prior, at which p(y|z) can learn nothing but p(y). Its term is added to the bound of the parts, see
:mod:`isthmus.models.pictures.label_heads`; where it is missing that term is 0. So any of picture,
caption and label may be missing in an example, as long as there is a picture or a caption.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers.configuration_utils import SubConfigSpec

from isthmus.data.captioned import Example
from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.experts import product
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentModel, TermsOutput
from isthmus.models.codec import Batch
from isthmus.models.config import build_prior
from isthmus.models.generation import Generation
from isthmus.models.joint.codec import SYMBOLS_A_TOKEN, JointCodec
from isthmus.models.labels import LabelledConfig
from isthmus.models.optimus import OptimusConfig, OptimusModel
from isthmus.models.pictures.label_heads import HeadKind, LabelPredictor, label_head
from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.models.tuning import widest_type


@strict
class JointConfig(LabelledConfig):
    """The configurations of the parts, None for a part that there is not.

    Each has this one's latent size.

    Args:
        picture: Of a model of pictures.
        caption: Of a model of texts.
        label_head: "softmax" or "svm": p(y|z) where there are ``labels``.
    """

    model_type = "isthmus-joint"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "picture": SubConfigSpec(config_class=PictureConfig, optional=True),
        "caption": SubConfigSpec(config_class=OptimusConfig, optional=True),
    }

    picture: PictureConfig | dict[str, Any] | None = None
    caption: OptimusConfig | dict[str, Any] | None = None
    label_head: HeadKind = "softmax"


@final
class JointModel(LabelPredictor):
    """q(z|any parts) and p(every part|z); with labels p(y|z) as well.

    Args:
        config: Sizes and kinds.
        parts: Built models of the parts; fresh ones if absent.
    """

    config_class = JointConfig
    config: JointConfig
    codec: JointCodec
    symbols_a_token: ClassVar[int] = SYMBOLS_A_TOKEN

    def __init__(
        self, config: JointConfig, parts: Mapping[str, LatentModel] | None = None
    ) -> None:
        super().__init__(config)
        if config.latents != 1 or config.prior != "standard":
            raise IsthmusError(
                "a joint model has one latent vector with a standard normal prior, and no "
                "clusters; leave out model.prior and model.clusters"
            )
        if parts is None:
            systems = {"picture": PictureModel, "caption": OptimusModel}
            own = {name: getattr(config, name) for name in systems}
            parts = {name: systems[name](of) for name, of in own.items() if of is not None}
        sizes = {part.config.latent_size for part in parts.values()}
        if sizes != {config.latent_size}:
            raise IsthmusError(
                f"latent_size: got {config.latent_size}, its parts have {sorted(sizes)}; they "
                "share one latent"
            )
        if any(part.family is not DiagonalGaussian for part in parts.values()):
            raise IsthmusError(
                "posterior: a product of experts needs diagonal Gaussians; use diagonal"
            )
        self.parts = nn.ModuleDict(parts)
        self.codec = JointCodec(self.members, config.label_names)
        self.labels = None
        if names := config.label_names:
            self.labels = label_head(config.label_head, config.latent_size, len(names))
        self.prior_module = build_prior(config)
        self.finish_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The parts have initialised themselves."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what is trained; fixed parts may be held in a narrower type."""
        return widest_type(self)

    @property
    def members(self) -> dict[str, LatentModel]:
        """The models of the parts; :class:`Generation` can ask for one of them."""
        return {name: one for name, one in self.parts.items() if isinstance(one, LatentModel)}

    def freeze(self) -> None:
        """Choose what is trained, part by part."""
        for part in self.members.values():
            part.freeze()

    def symbols(self, batch: Batch) -> int:
        """Symbols of all parts, a token as many as SYMBOLS_A_TOKEN values of a picture."""
        return sum(
            (SYMBOLS_A_TOKEN // part.symbols_a_token) * targets.numel()
            for name, part in self.members.items()
            if (targets := batch.get(f"{name}/targets")) is not None
        )

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """q(z|the parts that are given), the prior where none is read, [N P].

        In training only of those that the batch leaves open.
        """
        experts = []
        for name, part in self.members.items():
            given = batch[f"{name}/given"]
            read = given & batch.get(f"{name}/open", given)
            if read.any():
                own = {key: value[read[given]] for key, value in part_of(batch, name).items()}
                expert = part.posterior(own)
                assert isinstance(expert, DiagonalGaussian)
                experts.append((read.nonzero().squeeze(1), expert))
        size = len(batch[f"{self.modalities[0]}/given"])
        return product(experts, size, self.config.latent_size, self.device)

    def terms_under(
        self, posterior: Posterior, prior: Prior, batch: Batch, noise: Tensor | None
    ) -> TermsOutput:
        """As for every model, with the caption's share of the reconstruction apart as well."""
        z = posterior.rsample(noise=noise)
        losses = self.part_losses(z, batch)
        return TermsOutput(
            reconstruction=sum(losses.values(), z.new_zeros(z.shape[:2])).mean(0),
            kl=posterior.kl(prior, z),
            posterior=posterior.detach().tensors,
            z=z[0].detach(),
            shares={"caption": losses["caption"].mean(0)} if "caption" in losses else {},
            extra=self.extra_terms(z, batch),
        )

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−Σ_m log p(x_m|z) over the parts that are given: z [S N P] → [S N], nats."""
        return sum(self.part_losses(z, batch).values(), z.new_zeros(z.shape[:2]))

    def part_losses(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """−log p(x_m|z) of every part, 0 where it is not given: z [S N P] → [S N] each, nats."""
        losses = {}
        for name, part in self.members.items():
            rows = batch[f"{name}/given"].nonzero().squeeze(1)
            losses[name] = z.new_zeros(z.shape[:2])
            if len(rows):
                own = part.reconstruction(z[:, rows], part_of(batch, name))
                losses[name] = losses[name].to(own.dtype).index_copy(1, rows, own)
        return losses

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> Posterior:
        """There is none: what would a pseudo-input be, a picture or a text?"""
        raise IsthmusError("a joint model has no VampPrior; use prior standard")

    def draw(self, z: Tensor, generation: Generation) -> list[Any]:
        """What ``generation.part`` asks for, or examples with all parts, for latents [N P].

        Raises:
            IsthmusError: A label is to steer it.
        """
        if generation.label or generation.mixture or generation.guidance != 1:
            raise IsthmusError(
                "label: this model predicts it from z, and its decoders do not read it; leave it "
                "out"
            )
        asked = replace(generation, part="")
        if generation.part:
            return self.members[generation.part].draw(z, asked)
        drawn = {name: part.draw(z, _allowed(name, asked)) for name, part in self.members.items()}
        rows = zip(*drawn.values(), strict=True)
        return [Example(**dict(zip(drawn, row, strict=True))) for row in rows]


def part_of(batch: Batch, name: str) -> Batch:
    """The tensors of a part under their own names."""
    prefix = f"{name}/"
    own = {key.removeprefix(prefix): value for key, value in batch.items() if prefix in key}
    return {key: value for key, value in own.items() if key not in ("given", "open")}


def _allowed(name: str, generation: Generation) -> Generation:
    """How to draw a part together with others: settings of tokens do not apply to pictures."""
    if name == "caption":
        return generation
    return Generation(sample=generation.sample, seed=generation.seed)
