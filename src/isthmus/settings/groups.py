"""What a user can set, as dataclasses: recipes are files of them, flags override their fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple

from isthmus.errors import IsthmusError
from isthmus.settings.choices import PosteriorKind, PriorKind


class _Range(NamedTuple):
    """Numbers that make sense; NaN never does."""

    words: str
    holds: Callable[[float], bool]


_POSITIVE: Final = _Range("> 0", lambda value: 0 < value < math.inf)
_NOT_NEGATIVE: Final = _Range("≥ 0", lambda value: 0 <= value < math.inf)
_AT_LEAST_ONE: Final = _Range("≥ 1", lambda value: value >= 1)
_AT_LEAST_THREE: Final = _Range("≥ 3 (start, a token, end)", lambda value: value >= 3)
_FRACTION: Final = _Range("from 0 to 1", lambda value: 0 <= value <= 1)
_RATE: Final = _Range("from 0 to below 1", lambda value: 0 <= value < 1)
_SEED: Final = _Range("from 0 to 2³² − 1", lambda value: 0 <= value < 2**32)


def _check(group: str, settings: Any, ranges: dict[_Range, tuple[str, ...]]) -> None:
    """Refuse the first number outside its range, by the name that recipes and flags give it."""
    for allowed, names in ranges.items():
        for name in names:
            value = vars(settings)[name]
            if not allowed.holds(value):
                raise IsthmusError(f"{group}.{name} must be {allowed.words}, got {value}")


@dataclass(frozen=True)
class StockSettings:
    """A stock transformers model: pretrained weights, or a fresh one of a given size."""

    source: str = ""
    """Hub name, folder, .gguf file or weight package; empty for a fresh model."""
    architecture: str = "bert"
    """transformers' model type of a fresh model, or lstm."""
    layers: int = 2
    """Number of blocks."""
    hidden_size: int = 128
    """Width."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.0
    """Dropout of a fresh model, wherever its architecture has any."""
    tuning: Literal["full", "lora", "frozen"] = "full"
    """Which of its weights are trained."""
    options: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Further fields of the transformers configuration of a fresh model."""


_STOCK_RANGES: Final = {_AT_LEAST_ONE: ("layers", "hidden_size", "heads"), _RATE: ("dropout",)}


@dataclass(frozen=True)
class EncoderSettings(StockSettings):
    """The encoder: text → q(z|x)."""

    pooling: Literal["pooler", "first", "last", "mean", "max", "attention"] = "pooler"
    """How hidden states become one vector; "pooler" is BERT's own, "last" an LSTM's summary."""
    reads_label: bool = False
    """q(z|x, y): the posterior is told the label as well (model.labels)."""
    start_from: str = ""
    """A run whose language model has this encoder's network, to start with its weights: an LSTM
    (Yang et al. 2017, "+init")."""
    head_scale: float = 0.02
    """Standard deviation of the weights that the posterior mean starts with: 0.02 in the papers'
    code. A fresh encoder learns several times faster with about 0.5, from where z carries more
    than its own noise (docs/log.md)."""

    def __post_init__(self) -> None:
        _check("model.encoder", self, _STOCK_RANGES)


@dataclass(frozen=True)
class DecoderSettings(StockSettings):
    """The decoder: z → p(x|z)."""

    architecture: str = "gpt2"
    """transformers' model type of a fresh model, or lstm or dilated-cnn."""
    output: Literal["softmax", "adaptive"] = "softmax"
    """Output layer of a fresh decoder. "adaptive" (Grave et al. 2017) trains several times faster
    on a processor with a large word-level vocabulary; its probabilities are exact as well."""
    word_vectors: str = ""
    """A pretrained encoder (as for source) whose vectors of words a fresh decoder reads and tells
    with, fixed, so that it knows what words are near; with data.tokenizer word and the output
    softmax. Empty for none."""

    def __post_init__(self) -> None:
        _check("model.decoder", self, _STOCK_RANGES)
        if self.word_vectors and (self.source or self.output != "softmax"):
            other, remedy = "output", "use --model.decoder.output softmax"
            if self.source:
                other, remedy = "source", "leave out one of them"
            raise IsthmusError(
                f"model.decoder.word_vectors: got {self.word_vectors!r} beside model.decoder."
                f"{other} {vars(self)[other]!r}, expected a fresh decoder with a softmax; {remedy}"
            )


@dataclass(frozen=True)
class PictureSettings:
    """A model of pictures in the place of one of texts."""

    network: Literal["none", "mlp", "conv", "residual", "deconv", "strided"] = "none"
    """Encoder and decoder; "strided" has the fastest convolutions; "deconv" is that of Pu et al.
    2016, with stochastic pooling and unpooling; "none" for a model of texts."""
    hidden_size: int = 512
    """Width of a perceptron (mlp); channels after the first convolution of the others."""
    layers: int = 2
    """Hidden layers of a perceptron; how often the others halve the picture."""
    likelihood: Literal["bernoulli", "logistic", "gaussian"] = "bernoulli"
    """p(x|z): bernoulli of binary pictures; discretised logistic or normal over 256 levels."""
    scale: Literal["each", "one"] = "each"
    """Scale of logistic and gaussian: each value's own, or one for all, which draws sooner what
    differs between pictures with the same background."""
    binarisation: Literal["sampled", "threshold"] = "sampled"
    """How grey becomes binary (bernoulli only): 1 with the probability of the grey value, drawn
    anew in every epoch of training; or 1 above one half."""
    fit: Literal["skip", "resize", "pad"] = "skip"
    """What becomes of pictures of another size than most."""
    label_head: Literal["softmax", "svm"] = "softmax"
    """p(y|z) where model.labels is "given": softmax, or the Bayesian SVM of Pu et al. 2016. It
    weighs objective.classification (their ξ) in training, 0 without a label."""

    def __post_init__(self) -> None:
        _check("model.picture", self, {_AT_LEAST_ONE: ("hidden_size", "layers")})


@dataclass(frozen=True)
class ModelSettings:
    """The model."""

    latent: Literal["gaussian", "none"] = "gaussian"
    """"none" trains the decoder alone, as a plain language model to compare with."""
    latent_size: int = 32
    """P, dimensions of z."""
    bridge: str = "memory+embedding"
    """How z and a label enter the decoder: memory, embedding, prefix, start (in the place of the
    start token), cross-attention; state (lstm), input (lstm, dilated-cnn); or several by +."""
    bridge_length: int = 1
    """Memory slots, soft tokens (prefix) or context vectors (cross-attention) made of z."""
    posterior: PosteriorKind = "diagonal"
    """The family of q(z|x): Gaussians with a diagonal or a full covariance. Texts alone."""
    prior: PriorKind = "standard"
    """p(z) in training."""
    prior_components: int = 64
    """Components of the mixture, or pseudo-inputs of VampPrior."""
    labels: Literal["none", "given"] = "none"
    """"given" puts the label y of each text beside z: p(x|z, y) and a classifier q(y|x); with
    latent "none" labels are control codes, p(x|y) (CTRL, Keskar et al. 2019). Of pictures, with
    captions or without, y is told from z, p(y|z), and beside nothing."""
    captions: Literal["none", "given"] = "none"
    """"given" trains pictures and their captions on one latent: model.picture is the pictures'
    door, the encoder, bridge and decoder of texts are the captions'. In any example any part may
    be missing, and with model.labels the label too."""
    clusters: int = 0
    """Number of values of a y that is learned without labels; 0 for none."""
    adversary: bool = False
    """Something tries to tell the label from z, and the encoder to hide it; its weight is
    objective.adversary."""
    rivals: int = 0
    """So many other codes each text is read under as well in training; objective.classification
    weighs −log p(code|text) among them (GeDi, Krause et al. 2020). Each costs a pass."""
    lora_rank: int = 8
    """Rank of LoRA updates, where tuning is "lora"."""
    encoder: EncoderSettings = EncoderSettings()
    decoder: DecoderSettings = DecoderSettings()
    picture: PictureSettings = PictureSettings()

    def __post_init__(self) -> None:
        names = ("latent_size", "bridge_length", "prior_components", "lora_rank")
        _check("model", self, {_AT_LEAST_ONE: names, _NOT_NEGATIVE: ("clusters", "rivals")})
        other = self.latent == "none" or self.picture.network != "none"
        if self.posterior != "diagonal" and other:
            raise IsthmusError(
                f"model.posterior: {self.posterior} is for a VAE of texts alone; use diagonal"
            )
        if self.clusters == 1 or (self.clusters and self.labels == "given"):
            raise IsthmusError(
                "model.clusters must be 0 or at least 2, and 0 beside model.labels given, got "
                f"{self.clusters}"
            )
        if self.captions == "given" and self.picture.network == "none":
            raise IsthmusError(
                'model.captions: "given" needs pictures beside them; add --model.picture.network '
                "mlp, conv or residual"
            )
        if self.latent == "none" and self.clusters:
            raise IsthmusError(
                'model.latent "none" has no encoder that could find clusters; '
                "leave out model.clusters"
            )


@dataclass(frozen=True)
class DataSettings:
    """How texts become tokens."""

    tokenizer: Literal["word", "bpe"] = "bpe"
    """Trained on the training split; a pretrained model always keeps its own instead."""
    vocabulary_size: int = 8000
    """Largest vocabulary of a trained tokenizer."""
    maximum_length: int = 64
    """Longest text in tokens, start and end included; longer ones are cut and counted."""
    limit: int = 0
    """Train on so many sentences only; 0 takes all."""
    labelled: int = 0
    """So many of the labels are told to the model (model.labels "given"), every class its share;
    the other examples count as unlabelled. 0 tells all."""
    deletion: float = 0.0
    """Rate of tokens deleted from the encoder's input (denoising)."""
    masking: float = 0.0
    """Rate of tokens masked in the encoder's input (denoising)."""
    word_dropout: float = 0.0
    """Rate of tokens hidden from the decoder's input (Bowman et al. 2016)."""

    code_dropout: float = 0.0
    """Rate of texts whose label is hidden from the decoder behind the null code, which guidance
    steers away from (model.labels given)."""
    code_separator: str = ""
    """What parts a label into a code and free text after it: ":" for "DESC:manner", " " for
    "Reviews Rating: 5.0". Empty: the whole label is the code."""
    detail_dropout: float = 0.5
    """Rate of texts whose free text after the code is left out: p(x|code) is learned too."""
    sampling: Literal["natural", "balanced"] = "natural"
    """"balanced" repeats the texts of rarer labels until each label has as many as the commonest;
    p(y) stays that of the data."""

    def __post_init__(self) -> None:
        _check(
            "data",
            self,
            {
                _AT_LEAST_ONE: ("vocabulary_size",),
                _AT_LEAST_THREE: ("maximum_length",),
                _NOT_NEGATIVE: ("limit", "labelled"),
                _FRACTION: ("deletion", "masking", "word_dropout"),
                _RATE: ("code_dropout", "detail_dropout"),
            },
        )


@dataclass(frozen=True)
class BoundSettings:
    """How training charges the KL: β(step) · floor(KL)."""

    schedule: Literal["constant", "linear", "cyclical", "zero-ramp"] = "zero-ramp"
    """β over the run: Higgins 2017, Bowman 2016, Fu 2019, Optimus 2020."""
    beta: float = 1.0
    """β at the end of every cycle."""
    cycles: int = 1
    """Cycles of the schedule over the run."""
    zero: float = 0.5
    """Fraction of a cycle at β = 0 (zero-ramp only)."""
    ramp: float = 0.25
    """Fraction of a cycle in which β rises (all but constant)."""
    free_bits: float = 0.0
    """λ, nats per dimension that the loss does not charge ("total": nats in all)."""
    free_bits_form: Literal["mask", "clamp", "batch-mean", "total"] = "mask"
    """Optimus 2020; Li 2019 and T5-VAE 2021; Kingma 2016; one floor for the sum."""
    label_nats: float = 0.0
    """γ: holds KL(q(y|x) ‖ p(y)) at γ nats instead of pressing it to 0; a value a little below
    ln C keeps clusters in use (model.clusters)."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms that models add to their bound in training, by the terms' names.

    The loss adds the terms in this order. A new term needs its weight here and nothing else.
    """

    classification: float = 1.0
    """α, weight of −log q(y|x) where the label y is given (model.labels); for pictures ξ, weight
    of −log p(y|z)."""
    balance: float = 0.0
    """Weight of KL(mean q(y|x) ‖ p(y)) over a batch, which keeps all clusters in use; for pictures
    of p(y|z)."""
    caption: float = 1.0
    """Weight of a caption's nats in training (model.captions): a picture has hundreds of times as
    many, so a shared encoder would learn the caption's last. Measured bounds never use it."""
    adversary: float = 1.0
    """Weight of the adversary's loss and of the encoder's against it (model.adversary)."""
    uncertainty: float = 0.0
    """Weight of the entropy of p(y|z) where the label is missing (pictures): it keeps class
    borders away from unlabelled pictures (Grandvalet & Bengio 2005). Together with balance it
    maximises the information between y and x (Krause et al. 2010)."""
    feature: float = 0.0
    """λ_feat, weight of the distance between pictures and their reconstructions in a frozen random
    network; a random other picture is as many units away as a picture has values
    (Dosovitskiy & Brox 2016)."""


@dataclass(frozen=True)
class ObjectiveSettings(TermWeights, BoundSettings):
    """The training loss: reconstruction + β(step) · floor(KL) + Σ weight · term."""

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term outside the bound, by the term's name."""
        bound = {own.name for own in fields(BoundSettings)}
        return {name: weight for name, weight in vars(self).items() if name not in bound}

    def __post_init__(self) -> None:
        _check(
            "objective",
            self,
            {
                _NOT_NEGATIVE: ("beta", "free_bits", "label_nats", *self.weights),
                _AT_LEAST_ONE: ("cycles",),
                _FRACTION: ("zero", "ramp"),
            },
        )


@dataclass(frozen=True)
class TrainSettings:
    """The run."""

    epochs: float = 1.0
    """Passes over the training data."""
    steps: int = 0
    """Optimiser steps; 0 counts epochs instead."""
    tokens_per_batch: int = 2048
    """Padded tokens in a batch."""
    sentences_per_batch: int = 0
    """A fixed number of sentences instead of a token budget; 0 for the budget."""
    accumulation: int = 1
    """Batches per optimiser step."""
    learning_rate: float = 5e-4
    """At its peak."""
    warmup: float = 0.02
    """Fraction of the run over which the learning rate rises."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after that."""
    weight_decay: float = 0.0
    """AdamW's."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 runs the matrix products of training in bfloat16."""
    evaluations: int = 8
    """How often in the run the validation bound is measured and a checkpoint written."""
    keep: Literal["best", "last"] = "best"
    """Which weights the run ends with: the best by the true bound (β = 1), or the last."""
    semi_amortised: int = 0
    """Steps of gradient ascent on each text's own posterior before the decoder learns from it
    (Kim et al. 2018, first order); each costs a decoder pass. 0 for none."""
    semi_amortised_rate: float = 0.1
    """Learning rate of these steps, in units of z."""
    log_every: int = 25
    """Optimiser steps between two lines of the log."""
    seed: int = 0
    """Of weights, batches, noise and corruption."""
    start_from: str = ""
    """A run to start from: its weights and tokenizers, with this run's data and objective."""

    def __post_init__(self) -> None:
        _check(
            "train",
            self,
            {
                _POSITIVE: ("epochs", "learning_rate", "semi_amortised_rate"),
                _AT_LEAST_ONE: ("tokens_per_batch", "accumulation", "evaluations", "log_every"),
                _NOT_NEGATIVE: (
                    "steps",
                    "sentences_per_batch",
                    "weight_decay",
                    "clip",
                    "semi_amortised",
                ),
                _RATE: ("warmup",),
                _SEED: ("seed",),
            },
        )


@dataclass(frozen=True)
class FirstPhaseSettings:
    """A phase before the run proper, as an autoencoder: Li et al. 2019, Park & Lee 2021.

    It is a run of its own in the folder first-phase of the run directory, with the same data,
    model and batches. z is sampled; the encoder that comes out of it starts the run proper.
    """

    epochs: float = 0.0
    """Passes over the training data; 0 for no such phase."""
    beta: float = 0.0
    """β throughout."""
    learning_rate: float = 0.0
    """At its peak; 0 for that of the run."""
    trains: Literal["all", "encoder"] = "all"
    """"encoder" leaves a pretrained decoder as it is; the bridge is trained in any case."""
    keeps: Literal["encoder", "all"] = "encoder"
    """What the run goes on with: "encoder" draws the whole decoder and the bridge anew."""

    def __post_init__(self) -> None:
        _check("first", self, {_NOT_NEGATIVE: ("epochs", "beta", "learning_rate")})


@dataclass(frozen=True)
class Settings:
    """A recipe: everything that, with the data, determines a run."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: TrainSettings = TrainSettings()
    first: FirstPhaseSettings = FirstPhaseSettings()

    def __post_init__(self) -> None:
        if self.train.start_from and (self.first.epochs or self.model.encoder.start_from):
            raise IsthmusError(
                "train.start_from gives all weights, which first.epochs or "
                "model.encoder.start_from would replace; leave out one of them"
            )
        if self.first.epochs and self.model.latent == "none":
            raise IsthmusError(
                'model.latent "none" has no autoencoder to begin with; use --first.epochs 0'
            )
        if self.model.decoder.word_vectors and self.data.tokenizer != "word":
            raise IsthmusError(
                f"model.decoder.word_vectors: got data.tokenizer {self.data.tokenizer!r}, whose "
                "tokens are no words; add --data.tokenizer word"
            )
        if self.objective.feature and self.model.picture.network == "none":
            raise IsthmusError(
                f"objective.feature: got {self.objective.feature}, but it compares pictures; "
                "leave it out, or give --model.picture.network"
            )
        if self.objective.feature and self.train.semi_amortised:
            raise IsthmusError(
                "objective.feature and train.semi_amortised do not go together; leave out one"
            )
        labelled = self.model.labels == "given"
        for name in ("code_dropout", "code_separator", "sampling"):
            if not labelled and vars(self.data)[name] != vars(DataSettings())[name]:
                raise IsthmusError(
                    f"data.{name}: got {vars(self.data)[name]!r}, but nothing reads labels; "
                    "add --model.labels given"
                )
