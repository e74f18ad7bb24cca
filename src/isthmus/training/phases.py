"""What a run can start from: a first phase, an earlier run, the network of a language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from rich.console import Console

from isthmus.data.kind import Corpus
from isthmus.data.labelled import codes
from isthmus.data.vectors import width_of
from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate
from isthmus.models.base import LatentModel
from isthmus.models.codec import Examples
from isthmus.models.labels import label_set
from isthmus.models.language import LanguageModel
from isthmus.models.newton import first_step, texts_for
from isthmus.models.optimus import OptimusModel
from isthmus.models.starting import alone
from isthmus.models.text_model import TextModel
from isthmus.progress import counting
from isthmus.runs import bundle
from isthmus.settings import FirstPhaseSettings, Settings, TextVAESettings

FIRST_PHASE = "first-phase"
"""Its folder in the run directory: a run of its own, resumable like any other."""


def first_settings(settings: Settings) -> Settings:
    """The settings of the first phase of a run.

    It keeps its last weights, because the true bound would choose among autoencoders by their KL.
    """
    first, model = settings.first, settings.model
    if first.trains == "encoder":
        if not isinstance(model, TextVAESettings):
            raise IsthmusError(
                'first.trains: got "encoder", which freezes the decoder of a text-vae, and this '
                f"model is a {model.kind}; use --first.trains all"
            )
        if model.decoder.tuning != "full":
            raise IsthmusError(
                'first.trains "encoder" freezes the decoder for the first phase, and '
                f"model.decoder.tuning is {model.decoder.tuning!r} anyway; leave one of them out"
            )
        frozen = dataclasses.replace(model.decoder, tuning="frozen")
        model = dataclasses.replace(model, decoder=frozen)
    run = dataclasses.replace(
        settings.train,
        epochs=first.epochs,
        steps=0,
        fit_prior=0.0,
        minutes=settings.train.minutes * first.epochs / (first.epochs + settings.train.epochs),
        learning_rate=first.learning_rate or settings.train.learning_rate,
        keep="last",
    )
    return dataclasses.replace(
        settings,
        model=model,
        objective=dataclasses.replace(
            settings.objective, schedule="constant", beta=first.beta, free_bits=0.0
        ),
        train=run,
        first=FirstPhaseSettings(),
    )


def take_over(model: LatentModel, first: LatentModel, keeps: Literal["encoder", "all"]) -> None:
    """Give a fresh model the weights of a first phase, in place.

    Args:
        model: with fresh weights.
        first: the model after the first phase.
        keeps: "encoder" takes the encoder with its head and the classifier, if any, and nothing
            else (Li et al. 2019 reset the whole decoder with its embeddings and the map from z).
    """
    weights = first.state_dict()
    if keeps == "encoder":
        parts = ("encoder.", "labels.", "label_head.")
        weights = {name: value for name, value in weights.items() if name.startswith(parts)}
    model.load_state_dict(weights, strict=keeps == "all")


def earlier_run(
    settings: Settings, corpus: Corpus, labels: list[str | None] | None
) -> LatentModel:
    """The model of the run that ``train.start_from`` names, for further training.

    Raises:
        IsthmusError: no such run, or one that this run's data or labels do not fit.
    """
    source = settings.train.start_from
    model = bundle.load(source)
    if model.kind is not corpus.kind:
        raise IsthmusError(
            f"train.start_from: {source} is not a run of {corpus.kind.field}s; give one that is"
        )
    own, given = getattr(model.config, "vector_size", 0), width_of(corpus.examples)
    if own != given:
        reads = f"vectors of {own} numbers" if own else "texts without given vectors"
        raise IsthmusError(
            f"train.start_from: {source} reads {reads}, and these texts come with "
            f"{f'vectors of {given}' if given else 'none'}; change --embeddings"
        )
    had = label_set(model)
    if bool(had.names) != (labels is not None):
        has = "has" if had.names else "has no"
        raise IsthmusError(
            f"train.start_from: {source} {has} labels, and this run's model.labels "
            "and model.clusters say otherwise; give those of that run"
        )
    if getattr(settings.data, "code_dropout", 0) and not had.null_code:
        raise IsthmusError(
            f"train.start_from: {source} has no null code to put in the place of dropped "
            "ones; use --data.code-dropout 0"
        )
    if isinstance(model, LanguageModel) and labels is not None:
        model.config.even_codes = settings.data.sampling == "balanced"
        model.add_codes(codes(labels, had.separator))
    return model


def start_encoder(model: LatentModel, source: str) -> None:
    """Give an encoder the weights of a language model's network (Yang et al. 2017), in place.

    Raises:
        IsthmusError: no such run, or one of another network or vocabulary.
    """
    other = bundle.load(source)
    if not isinstance(model, OptimusModel) or not isinstance(other, LanguageModel):
        raise IsthmusError(
            f"model.encoder.start_from: {source} is no language model; "
            "train one with --model.kind language-model"
        )
    theirs, ours = other.codec.decoder_tokenizer, model.codec.encoder_tokenizer
    if theirs.get_vocab() != ours.get_vocab():
        raise IsthmusError(
            f"model.encoder.start_from: {source} has another vocabulary than this run; "
            "train it on the same texts with the same data settings"
        )
    try:
        model.encoder.model.load_state_dict(other.decoder.model.base_model.state_dict())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise IsthmusError(
            f"model.encoder.start_from: the network of {source} is not this encoder's ({reason})"
        ) from error


def begin_at_decoder(
    model: LatentModel,
    settings: Settings,
    texts: Sequence[str],
    valid: Examples,
    console: Console,
) -> Estimate | None:
    """Measure a pretrained decoder as it is, then take the first step in closed form.

    Returns:
        *Row 0*, −log p(x) of the decoder before training, nats: what a run has to beat, whatever
        its latent is good for. None of a decoder of another kind.
    """
    decoder, first = getattr(settings.model, "decoder", None), settings.first
    trained = settings.train.start_from or (first.epochs and first.keeps == "all")
    if trained or not decoder or not decoder.source or not isinstance(model, TextModel):
        return None
    with counting(console, "row 0", len(valid)) as progress:
        row = Estimate.mean_of(alone(model, valid, progress))
    console.print(f"row 0: −log p(x) {row.value:.2f}, the pretrained decoder as it is")
    fresh = isinstance(settings.model, TextVAESettings) and settings.model.start == "fresh"
    if fresh and not first.epochs:
        _step_ahead(model, settings.train.precision == "bf16", texts, console)
    return row


def _step_ahead(model: TextModel, bf16: bool, texts: Sequence[str], console: Console) -> None:
    """The first step, for a model that :mod:`isthmus.models.newton` has one for."""
    if not (some := texts_for(model, texts)):
        return
    assert isinstance(model, OptimusModel)
    mixed = torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)
    with counting(console, "first step: reading", 2 * len(some)) as progress, mixed:
        step = first_step(model, some, progress)
    console.print(
        f"first step, in closed form from {step.texts:,} texts: z has {step.kl:.1f} nats a text "
        f"in {step.dimensions} dimensions, which should lower −log p(x|z) by {step.gain:.1f}"
    )
