"""Settings of the training run and of the phase before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.settings.ranges import Count, Positive, Rate, Seed, Size, Weight


@dataclass(frozen=True)
class TrainSettings:
    """The training run."""

    epochs: Positive = 1.0
    """Passes over the training data."""
    steps: Count = 0
    """Optimiser steps; 0 to train for train.epochs instead."""
    minutes: Weight = 0.0
    """Minutes that the whole command may take; 0 for no limit. The first steps are timed, and
    as many are planned as fit, but no more than train.steps or train.epochs ask for. β and the
    learning rate follow the planned number. The run's recipe.toml holds that number and no limit:
    it gives the same weights again. --minutes is short for it."""
    fit_prior: Rate = 0.0
    """Share of the time for fitting priors to the posteriors of the training texts, after the last
    step; the best on validation texts becomes p(z). Encoder and decoder stay as they are. 0 for
    none."""
    tokens_per_batch: Size = 2048
    """Size of a batch in tokens, padding included."""
    sentences_per_batch: Count = 0
    """Size of a batch in examples; 0 to use train.tokens-per-batch instead."""
    accumulation: Size = 1
    """Number of batches that make up one optimiser step."""
    learning_rate: Positive = 5e-4
    """Peak learning rate."""
    embedding_rate: Positive = 1.0
    """Peak learning rate of embeddings, in units of train.learning_rate."""
    warmup: Rate = 0.02
    """Fraction of the run over which the learning rate rises to its peak."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Weight = 0.0
    """Weight decay of AdamW."""
    clip: Weight = 1.0
    """Maximum norm of the gradient; 0 for no limit."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Precision of training; bf16 computes matrix products in bfloat16. With auto a model of texts
    that is trained in full gets what is faster on this machine."""
    threads: Count = 0
    """Threads of the processor, on which the last bits of sums depend; 0 for those that cores are
    free for (docs/runs.md). The run's recipe.toml has the number, and --resume keeps it."""
    gradient_checkpointing: bool = False
    """Compute the layers of encoder and decoder again in the backward pass, so that their inner
    states need no memory. The numbers stay the same; a step takes about a third longer."""
    sharding: bool = False
    """Divide weights, gradients and moments among the processes that torchrun has started: each
    holds a part (docs/scale.md)."""
    evaluations: Size = 8
    """How many times to measure the validation bound and write a checkpoint."""
    validation: Size = 1000
    """Validation examples that the bound and the final figures are measured on: a random sample if
    there are more."""
    keep: Literal["best", "last"] = "best"
    """Which weights to save: those with the best validation bound (at β = 1), or the last."""
    sampled_vocabulary: Count = 0
    """Tokens beside those of the batch from which training estimates the denominator of the
    softmax (Jean et al. 2015); 0 for all tokens. Faster where a small decoder has a large
    vocabulary. Measuring uses all tokens."""
    semi_amortised: Count = 0
    """Steps of gradient ascent that improve each example's posterior before the decoder learns
    from it (Kim et al. 2018, in its first-order form). Each step costs a pass through the decoder.
    0 for none."""
    semi_amortised_rate: Positive = 0.1
    """Learning rate of the semi-amortised steps, in units of z."""
    log_every: Size = 25
    """Optimiser steps between lines of the log."""
    seed: Seed = 0
    """Seed of weights, batches, noise and corruption."""
    start_from: str = ""
    """Run that provides the model and the tokenizers. Without a recipe all other settings come
    from it too; with one, the recipe's own count. Data never come from it."""


@dataclass(frozen=True)
class FirstPhaseSettings:
    """An optional first phase that trains an autoencoder (Li et al. 2019, Park & Lee 2021).

    It is a run of its own, in the folder first-phase of the run directory, with the same data,
    model and batches; z is sampled. The main run starts from its weights.
    """

    epochs: Weight = 0.0
    """Passes over the training data; 0 for no first phase."""
    beta: Weight = 0.0
    """β of the first phase, the same at every step."""
    learning_rate: Weight = 0.0
    """Peak learning rate; 0 for that of the main run."""
    trains: Literal["all", "encoder"] = "all"
    """What the first phase trains: "encoder" freezes the decoder but still trains the bridge."""
    keeps: Literal["encoder", "all"] = "encoder"
    """What the main run keeps: with "encoder" it starts with a new decoder and bridge."""
