"""From settings and training texts to a model that can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from isthmus.data import tokens
from isthmus.data.labelled import split_label
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextCodec, longest_detail
from isthmus.models.decoder import check_output_layer
from isthmus.models.joint.build import build_joint
from isthmus.models.language import LanguageConfig, LanguageModel
from isthmus.models.optimus import OptimusConfig, OptimusModel
from isthmus.models.pictures.build import build_pictures
from isthmus.models.stock import fresh_config, pretrained
from isthmus.models.words import start_word_vectors
from isthmus.settings import DataSettings, Settings, StockSettings

_SPARE_POSITIONS = 8
"""Positions beyond the text and the bridge: RoBERTa has two that no token uses, for example."""


def build(
    settings: Settings, texts: Sequence[Any], labels: Sequence[str | None] | None = None
) -> LatentModel:
    """A model as the settings describe it, its tokenizers trained on ``texts`` where it has none.

    Arguments:
        settings: a recipe.
        texts: the training split and nothing else; pictures [N C H W] for a model of pictures,
            :class:`isthmus.data.captioned.Example` for one of both.
        labels: of the texts, None where one is not told; only read by ``model.labels`` "given".

    Raises:
        IsthmusError: settings that do not fit each other.
    """
    if settings.model.captions == "given":
        return build_joint(settings, texts, build, _label_names(settings, labels), labels or ())
    if settings.model.picture.network != "none":
        return build_pictures(settings, texts, _label_names(settings, labels), labels or ())
    set_seed(settings.train.seed)
    model = settings.model
    if settings.train.semi_amortised and (model.clusters or model.labels == "given"):
        raise IsthmusError(
            "train.semi_amortised improves q(z|x) alone and does not go with a label beside z; "
            "leave out --train.semi-amortised, or model.labels and model.clusters"
        )
    decoder, decoder_tokenizer = _source(model.decoder, "decoder")
    encoder, encoder_tokenizer = (None, None)
    if model.latent == "gaussian":
        encoder, encoder_tokenizer = _source(model.encoder, "encoder")
    if decoder_tokenizer is None or (encoder_tokenizer is None and model.latent == "gaussian"):
        trained = _train_tokenizer(settings.data, texts)
        decoder_tokenizer = decoder_tokenizer or trained
        encoder_tokenizer = encoder_tokenizer or trained
    special = tokens.special_ids(decoder_tokenizer)
    start = getattr(decoder.config, "decoder_start_token_id", None) if decoder else None
    if start is not None:  # T5 names its own
        special = special._replace(start=start)
    codec = make_codec(
        encoder_tokenizer or decoder_tokenizer,
        decoder_tokenizer,
        settings.data.maximum_length,
        special,
        _label_names(settings, labels),
        settings.data.code_separator,
    )
    _check_positions(decoder, "decoder", settings.data.maximum_length, _spare_positions(settings))
    _check_positions(encoder, "encoder", settings.data.maximum_length, _SPARE_POSITIONS)
    built = _assemble(settings, encoder, decoder, codec)
    if model.labels == "given":
        built.labels.start_prior(codes(labels, settings.data.code_separator))
    return built


def codes(labels: Sequence[str | None] | None, separator: str) -> list[str | None]:
    """The codes of labels, without what stands after them."""
    return [label and split_label(label, separator)[0] for label in labels or ()]


def _label_names(settings: Settings, labels: Sequence[str | None] | None) -> tuple[str, ...]:
    model = settings.model
    if model.labels == "none":
        return tuple(map(str, range(model.clusters)))
    told = codes(labels, settings.data.code_separator)
    names = sorted({name for name in told if name})
    if len(names) < 2:
        raise IsthmusError(
            f'model.labels is "given": expected at least 2 labels, got {len(names)}'
        )
    return tuple(names)


def _source(
    settings: StockSettings, role: str
) -> tuple[PreTrainedModel | None, PreTrainedTokenizerBase | None]:
    if settings.source:
        return pretrained(settings.source, role)
    if settings.tuning != "full":
        raise IsthmusError(
            f"{role}: tuning {settings.tuning!r} keeps the weights of a pretrained model, and "
            f"this one is fresh; give --model.{role}.source, or use tuning full"
        )
    return None, None


def _train_tokenizer(data: DataSettings, texts: Sequence[str]) -> PreTrainedTokenizerBase:
    if data.tokenizer == "word":
        return tokens.train_word_level(texts, data.vocabulary_size)
    return tokens.train_bpe(texts, data.vocabulary_size)


def make_codec(
    encoder_tokenizer: PreTrainedTokenizerBase,
    decoder_tokenizer: PreTrainedTokenizerBase,
    maximum_length: int,
    decoder_special: tokens.SpecialIds | None = None,
    label_names: tuple[str, ...] = (),
    code_separator: str = "",
) -> TextCodec:
    """The codec of two tokenizers.

    Arguments:
        encoder_tokenizer: any transformers tokenizer.
        decoder_tokenizer: the same one, or another.
        maximum_length: see :class:`TextCodec`.
        decoder_special: ids around the decoder's texts, where its tokenizer does not decide them:
            T5 names a start of its own, and a saved model keeps those that it was trained with.
        label_names: of a label beside z; empty without one.
        code_separator: see :class:`TextCodec`.
    """
    special = decoder_special or tokens.special_ids(decoder_tokenizer)
    if special.start is None:
        raise IsthmusError(
            f"{decoder_tokenizer.name_or_path}: the tokenizer has no token that starts a text; "
            "set its bos_token"
        )
    return TextCodec(
        encoder_tokenizer,
        decoder_tokenizer,
        maximum_length,
        special,
        special if special.end is None else tokens.special_ids(encoder_tokenizer),
        label_names,
        code_separator,
    )


def _spare_positions(settings: Settings) -> int:
    """Positions of the decoder that no token of a text takes.

    Each part of a bridge may fill some, and the detail of a code with its start token.
    """
    model = settings.model
    spare = _SPARE_POSITIONS + model.bridge_length * len(model.bridge.split("+"))
    if settings.data.code_separator:
        spare += longest_detail(settings.data.maximum_length) + 1
    return spare


def _check_positions(model: PreTrainedModel | None, role: str, length: int, spare: int) -> None:
    if model is None:
        return
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0 and length + spare > positions:
        raise IsthmusError(
            f"maximum_length: got {length}, but the {role} has {positions} positions and "
            f"{spare} are spare; use --data.maximum-length {positions - spare} or less"
        )


def _has_null_code(settings: Settings) -> bool:
    """Unlabelled texts: a classifier fills the gap; without an encoder only the null code can."""
    alone = settings.model.latent == "none"
    return settings.model.labels == "given" and (alone or settings.data.code_dropout > 0)


def _config(
    settings: Settings,
    stock: PreTrainedModel | None,
    part: StockSettings,
    codec: TextCodec,
    tokenizer: PreTrainedTokenizerBase,
) -> object:
    """The configuration of a stock model, as wide as its tokenizer; of a fresh one, new."""
    if stock is not None:
        if len(tokenizer) > stock.get_input_embeddings().weight.shape[0]:
            stock.resize_token_embeddings(len(tokenizer))
        return stock.config
    model, ids = settings.model, tokens.special_ids(tokenizer)
    given = {"pad_token_id": ids.pad, "bos_token_id": ids.start, "eos_token_id": ids.end}
    if part is model.decoder and "input" in model.bridge.split("+"):
        latent_size = 0 if model.latent == "none" else model.latent_size
        width = latent_size + len(codec.label_names) + _has_null_code(settings)
        given["latent_input"] = width
    positions = settings.data.maximum_length + _spare_positions(settings)
    return fresh_config(part, len(tokenizer), positions, given)


def _assemble(
    settings: Settings,
    encoder: PreTrainedModel | None,
    decoder: PreTrainedModel | None,
    codec: TextCodec,
) -> LatentModel:
    model, special = settings.model, codec.decoder_special
    shared = {
        "bridge": model.bridge,
        "bridge_length": model.bridge_length,
        "labels": list(codec.label_names) if model.labels == "given" else None,
        "null_code": _has_null_code(settings),
        "code_separator": codec.code_separator,
        "decoder": _config(settings, decoder, model.decoder, codec, codec.decoder_tokenizer),
        "decoder_tuning": model.decoder.tuning,
        "lora_rank": model.lora_rank,
        "decoder_start": special.start,
        "decoder_end": special.end,
        "decoder_pad": special.pad,
        "decoder_output": "words" if model.decoder.word_vectors else model.decoder.output,
    }
    built: LanguageModel | OptimusModel
    if model.latent == "none":
        config = LanguageConfig(
            rivals=model.rivals,
            even_codes=settings.data.sampling == "balanced",
            **shared,
        )
        built = LanguageModel(config, decoder, codec)
    else:
        config = OptimusConfig(
            encoder=_config(settings, encoder, model.encoder, codec, codec.encoder_tokenizer),
            encoder_tuning=model.encoder.tuning,
            pooling=model.encoder.pooling,
            latent_size=model.latent_size,
            posterior=model.posterior,
            prior=model.prior,
            prior_components=model.prior_components,
            clusters=model.clusters,
            encoder_reads_label=model.encoder.reads_label,
            adversary=model.adversary,
            **shared,
        )
        built = OptimusModel(config, encoder, decoder, codec)
        built.encoder.start_head(model.encoder.head_scale)
    if source := model.decoder.word_vectors:
        start_word_vectors(built.decoder.model, codec.decoder_tokenizer, source)
        if isinstance(built, LanguageModel):
            built.begin_codes()
    check_output_layer(built.decoder)
    if parameter_count(built)[1] == 0:
        raise IsthmusError(
            "model: a frozen decoder without a latent leaves nothing to train; "
            "use --model.decoder.tuning full or lora"
        )
    return built


def parameter_count(model: torch.nn.Module) -> tuple[int, int]:
    """(all, trained) parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
