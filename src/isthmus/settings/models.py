"""Settings of the model: one class for each kind, with the settings that apply to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isthmus.errors import IsthmusError
from isthmus.settings.choices import DISCRETE, BridgeName, ChosenPriorKind, PosteriorKind
from isthmus.settings.networks import (
    CaptionEncoderSettings,
    DecoderSettings,
    EncoderSettings,
    PictureSettings,
)
from isthmus.settings.ranges import Count, Rate, Size


@dataclass(frozen=True)
class _Model:
    """The settings of every model."""

    kind: str = ""
    """The kind of model. It determines which other settings there are."""


@dataclass(frozen=True)
class _Latent(_Model):
    """The settings of every model with a latent vector."""

    latent_size: Size = 32
    """Number of dimensions of the latent vector z."""


@dataclass(frozen=True)
class _LatentWithPrior(_Latent):
    """A latent vector whose prior can be learned."""

    prior: ChosenPriorKind = "standard"
    """The prior p(z) used in training."""
    prior_components: Size = 64
    """Components of the mixture prior, pseudo-inputs of the VampPrior, or entries of the
    codebook."""


@dataclass(frozen=True)
class _Text(_Model):
    """The settings of every model that writes text."""

    bridge: BridgeName = "memory+embedding"
    bridge_length: Size = 1
    """Number of memory slots, prefix tokens or cross-attention vectors."""
    lora_rank: Size = 8
    """Rank of the LoRA updates (with tuning lora)."""
    decoder: DecoderSettings = field(default_factory=DecoderSettings)


@dataclass(frozen=True)
class TextVAESettings(_Text, _LatentWithPrior):
    """The model: a VAE of texts."""

    kind: Literal["text-vae"] = "text-vae"
    latents: Size = 1
    """K, the number of latents of latent_size dimensions for each text."""
    summary: Count = 0
    """How many of the K latents, the first, sum the text up. The others are its details: with
    encoder.pooling blocks and bridge aligned they stand for its tokens, one after the other. Walks
    and samples are those of the summary, and so is the prior that is fitted. 0 for one level."""
    latent_dropout: Rate = 0.0
    """Share of the texts of which training hides latents from the decoder, which then learns to go
    on where latents say nothing. Of a text with a summary, the details behind some place."""
    bridge_dropout: Rate = 0.0
    """Dropout rate of the numbers of z on their way to the decoder (CALM, Shao et al. 2025)."""
    start: Literal["fresh", "copy"] = "fresh"
    """"copy" lets a new model with encoder.pooling blocks and bridge aligned start as one that
    copies its texts, see :mod:`isthmus.models.copying`."""
    posterior: PosteriorKind = "diagonal"
    """The family of q(z|x): Gaussians with a diagonal or a full covariance, or discrete latents:
    quantised, each an entry of a codebook of model.prior-components entries, or bits, each
    latent_size of them. These two have priors of their own."""
    labels: Literal["none", "given"] = "none"
    """"given" adds the label y of each text to the model: a decoder p(x|z, y) and a classifier
    q(y|x)."""
    clusters: Count = 0
    """Number of clusters: values of a discrete latent y, learned without labels. 0 for no
    clusters."""
    adversary: bool = False
    """Train an adversary that predicts the label from z, and train the encoder to defeat it.
    objective.adversary is the weight of both losses."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def __post_init__(self) -> None:
        if self.posterior in DISCRETE and (self.prior != "standard" or self.summary):
            raise IsthmusError(
                f"model.posterior: {self.posterior} has one level of latents and a prior of its "
                "own; leave out model.prior and model.summary"
            )
        if "middle" in self.bridge.split("+") and self.posterior != "bits":
            raise IsthmusError(
                f"model.bridge: middle reads bits, and model.posterior is {self.posterior}; add "
                "--model.posterior bits, or use --model.bridge aligned"
            )
        if self.clusters == 1 or (self.clusters and self.labels == "given"):
            raise IsthmusError(
                "model.clusters must be 0 or at least 2, and 0 with model.labels given, got "
                f"{self.clusters}"
            )
        if self.summary and self.prior != "standard":
            raise IsthmusError(
                f"model.prior: got {self.prior} with model.summary {self.summary}, expected "
                "standard; --train.fit-prior or isthmus prior fits another one afterwards"
            )


@dataclass(frozen=True)
class LanguageModelSettings(_Text):
    """The model: a language model, without a latent vector."""

    kind: Literal["language-model"] = "language-model"
    labels: Literal["none", "given"] = "none"
    """"given" makes the label of each text a control code: p(x|y) (CTRL, Keskar et al. 2019)."""
    rivals: Count = 0
    """Number of other codes to contrast with each text's own. The loss gains −log p(code|text),
    normalised over its own and these codes, weighted by objective.classification (GeDi, Krause et
    al. 2020). Each code costs a forward pass."""


@dataclass(frozen=True)
class PictureVAESettings(_LatentWithPrior):
    """The model: a VAE of pictures."""

    kind: Literal["picture-vae"] = "picture-vae"
    labels: Literal["none", "given"] = "none"
    """"given" adds a classifier p(y|z), which predicts the label of each picture from z."""
    picture: PictureSettings = field(default_factory=PictureSettings)


@dataclass(frozen=True)
class CaptionedPicturesSettings(_Text, _Latent):
    """The model: a VAE of pictures and their captions, which share one latent vector.

    Any part of an example may be missing: the picture, the caption or the label.
    """

    kind: Literal["pictures-with-captions"] = "pictures-with-captions"
    labels: Literal["none", "given"] = "none"
    """"given" adds a classifier p(y|z), which predicts the label of each example from z."""
    encoder: CaptionEncoderSettings = field(default_factory=CaptionEncoderSettings)
    picture: PictureSettings = field(default_factory=PictureSettings)


ModelSettings = (
    TextVAESettings | LanguageModelSettings | PictureVAESettings | CaptionedPicturesSettings
)
