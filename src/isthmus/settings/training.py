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
    tokens_per_batch: Size = 2048
    """Size of a batch in tokens, padding included."""
    sentences_per_batch: Count = 0
    """Size of a batch in examples; 0 to use train.tokens-per-batch instead."""
    accumulation: Size = 1
    """Batches for each optimiser step."""
    learning_rate: Positive = 5e-4
    """Peak learning rate."""
    warmup: Rate = 0.02
    """Fraction of the run over which the learning rate rises."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Weight = 0.0
    """Weight decay of AdamW."""
    clip: Weight = 1.0
    """Largest norm of the gradient; 0 for no limit."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes the matrix products of training in bfloat16."""
    evaluations: Size = 8
    """How many times to measure the validation bound and write a checkpoint."""
    keep: Literal["best", "last"] = "best"
    """Which weights to save: those with the best validation bound (at β = 1), or the last."""
    semi_amortised: Count = 0
    """Steps of gradient ascent on each text's posterior before the decoder learns from it (Kim et
    al. 2018, first order). Each costs a decoder pass. 0 for none."""
    semi_amortised_rate: Positive = 0.1
    """Learning rate of these steps, in units of z."""
    log_every: Size = 25
    """Optimiser steps between lines of the log."""
    seed: Seed = 0
    """Seed of weights, batches, noise and corruption."""
    start_from: str = ""
    """Run directory whose weights and tokenizers to start from; data and objective are those of
    this run."""


@dataclass(frozen=True)
class FirstPhaseSettings:
    """An optional first phase that trains an autoencoder (Li et al. 2019, Park & Lee 2021).

    It is a run in the folder first-phase of the run directory, with the same data, model and
    batches; z is sampled. The main run starts with its encoder.
    """

    epochs: Weight = 0.0
    """Passes over the training data; 0 for no first phase."""
    beta: Weight = 0.0
    """β, constant."""
    learning_rate: Weight = 0.0
    """Peak learning rate; 0 for that of the main run."""
    trains: Literal["all", "encoder"] = "all"
    """"encoder" freezes the decoder; the bridge is trained all the same."""
    keeps: Literal["encoder", "all"] = "encoder"
    """What the main run keeps: "encoder" initialises the decoder and the bridge anew."""
