"""Settings of the networks that a model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isthmus.errors import IsthmusError
from isthmus.settings.ranges import Rate, Size, Weight


@dataclass(frozen=True)
class StockSettings:
    """A transformers model: pretrained, or new with the given size."""

    source: str = ""
    """Pretrained weights: a name on the Hugging Face hub, a folder, a .gguf file or a Python
    package with weights. Empty for a new model."""
    architecture: str = "bert"
    """Architecture of a new model: lstm, feed-forward (no token sees another), or a model type of
    the transformers library."""
    layers: Size = 2
    """Layers of a new model."""
    hidden_size: Size = 128
    """Width of a new model."""
    heads: Size = 4
    """Attention heads of a new model."""
    dropout: Rate = 0.0
    """Dropout rate of a new model, used wherever its architecture has dropout."""
    tuning: Literal["full", "lora", "frozen"] = "full"
    """Which weights to train: all, low-rank updates only (LoRA), or none."""
    attention: str = ""
    """How transformers computes attention in training: eager, sdpa, flash_attention_2, … Empty for
    its own choice. A run that is loaded has its own choice again."""
    options: dict[str, int | float | bool | str] = field(default_factory=dict)
    """A further field of a new model's transformers configuration."""


@dataclass(frozen=True)
class CaptionEncoderSettings(StockSettings):
    """The encoder: from a caption to q(z|x)."""

    pooling: Literal[
        "own", "pooler", "first", "last", "mean", "max", "attention", "queries", "blocks"
    ] = "own"
    """How to reduce the hidden states to one vector, or to one for each latent. "own" is that of a
    sentence-transformers source, with its dense layers, its normalisation, its prompt and its
    maximum length; for other encoders it is "pooler", BERT's own method. "last" is the usual
    choice for an LSTM. "queries" reads each latent with a learned query; "blocks" reads latent k
    from its own model.bridge_length tokens."""
    prompt: str = ""
    """The prompt of a sentence-transformers source: one of its names, such as query, or the prompt
    itself, such as "query: ". Empty for its default prompt, if it has one."""
    head_scale: Weight = 0.0
    """Standard deviation of the initial weights of the map to the posterior mean. 0 chooses: with
    a pretrained model the scale at which each dimension of some texts has a KL of 0.1 nats, else
    0.02. Two new networks learn several times faster with about 0.5 (docs/log.md)."""


@dataclass(frozen=True)
class EncoderSettings(CaptionEncoderSettings):
    """The encoder: from a text to q(z|x)."""

    reads_label: bool = False
    """Give the label to the encoder as well: q(z|x, y). Needs model.labels given."""
    start_from: str = ""
    """Run directory of a language model whose network initialises this encoder; both must be LSTMs
    (Yang et al. 2017, "+init")."""


@dataclass(frozen=True)
class DecoderSettings(StockSettings):
    """The decoder of texts: p(x|z), or p(x) without a latent vector."""

    architecture: str = "gpt2"
    """Architecture of a new model: lstm, dilated-cnn, feed-forward (which reads z alone), or a
    model type of the transformers library."""
    output: Literal["softmax", "adaptive"] = "softmax"
    """Output layer of a new decoder. "adaptive" (Grave et al. 2017) trains several times faster on
    a CPU if the vocabulary is large. Its probabilities are also exact."""
    word_vectors: str = ""
    """A pretrained encoder, named as in source, whose word vectors a new decoder uses, frozen, for
    both input and output. The decoder then knows from the start which words are similar. Needs
    data.tokenizer word and output softmax. Empty for none."""

    def __post_init__(self) -> None:
        if self.word_vectors and (self.source or self.output != "softmax"):
            other, remedy = "output", "use --model.decoder.output softmax"
            if self.source:
                other, remedy = "source", "leave out one of them"
            raise IsthmusError(
                f"model.decoder.word_vectors: got {self.word_vectors!r} with model.decoder."
                f"{other} {vars(self)[other]!r}, expected a new decoder with a softmax; {remedy}"
            )


@dataclass(frozen=True)
class PictureSettings:
    """The encoder and the decoder of pictures, and how pictures are read."""

    network: Literal["mlp", "conv", "residual", "deconv", "strided"] = "mlp"
    """Encoder and decoder. "strided" is the fastest convolutional network; "deconv" is that of Pu
    et al. 2016, with stochastic pooling and unpooling."""
    hidden_size: Size = 512
    """Width of the mlp; for the other networks, the number of channels after the first
    convolution."""
    layers: Size = 2
    """Number of hidden layers of the mlp; for the other networks, how often they halve the width
    and height."""
    likelihood: Literal["bernoulli", "logistic", "gaussian"] = "bernoulli"
    """p(x|z): Bernoulli for binary pictures; a logistic or Gaussian, discretised to 256 levels."""
    scale: Literal["each", "one"] = "each"
    """Scale of the logistic or Gaussian: a separate one for each value of a picture, or one for
    all. With "one", the model learns the differences between pictures with the same background
    sooner."""
    binarisation: Literal["sampled", "threshold"] = "sampled"
    """How grey becomes black or white (bernoulli only). "sampled" draws it anew in every epoch,
    with the grey value as the probability of white; "threshold" makes values above one half
    white."""
    fit: Literal["skip", "resize", "pad"] = "skip"
    """What to do with pictures whose size differs from the most common one."""
    label_head: Literal["softmax", "svm"] = "softmax"
    """The classifier p(y|z) (model.labels given): softmax, or the Bayesian SVM of Pu et al. 2016.
    Its weight in training is objective.classification."""
