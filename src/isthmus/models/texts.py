"""From settings and training texts to a model that can be trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from isthmus.data import tokens
from isthmus.data.labelled import codes
from isthmus.data.molecules import with_spellings
from isthmus.data.symbols import train_tokenizer
from isthmus.data.vectors import width_of
from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.bridges import bridge_parts
from isthmus.models.checks import check_encoder, check_text_model
from isthmus.models.codec import TextCodec, longest_detail, make_codec
from isthmus.models.copying import start_copying
from isthmus.models.given import start_head, start_words
from isthmus.models.language import LanguageConfig, LanguageModel
from isthmus.models.no_encoder import GivenVectorsConfig
from isthmus.models.optimus import OptimusConfig, OptimusModel
from isthmus.models.output import Output
from isthmus.models.sentence_files import SentenceModules, read_modules
from isthmus.models.starting import mean_state, scale_head, start_at_decoder
from isthmus.models.stock import fresh_config, pretrained, resolve
from isthmus.models.text_model import TextModel
from isthmus.models.tuning import parameter_count
from isthmus.models.words import start_word_vectors
from isthmus.settings import (
    CaptionEncoderSettings,
    EncoderSettings,
    LanguageDataSettings,
    LanguageModelSettings,
    Settings,
    StockSettings,
    TextDataSettings,
    TextVAESettings,
    shared_fields,
)
from isthmus.settings.choices import DISCRETE

logger = logging.getLogger(__name__)

_Model = TextVAESettings | LanguageModelSettings
_Data = TextDataSettings | LanguageDataSettings

FRESH_HEAD = 0.02
"""Standard deviation of the weights of a head whose scale is not given, beside a new decoder."""

_SPARE_POSITIONS = 8
"""Positions beyond the text and the bridge: RoBERTa, for example, never uses two."""

_OTHERS = "use others, such as bert and gpt2"


def build_text(
    settings: Settings,
    texts: Sequence[str],
    names: Sequence[str] = (),
    labels: Sequence[str | None] = (),
    *,
    loaded: bool = False,
) -> OptimusModel | LanguageModel:
    """A text VAE or a language model, its tokenizers trained on the texts if it has none.

    Args:
        settings: Of one of these kinds.
        texts: The training split.
        names: Of the labels; none without labels.
        labels: Of the texts, None where the label is missing.
        loaded: As for `isthmus.models.build.build`.
    """
    from transformers import set_seed  # with which it imports peft

    set_seed(settings.train.seed)
    model, data = settings.model, settings.data
    assert isinstance(model, _Model)
    assert isinstance(data, _Data)
    decoder, decoder_tokenizer = _source(model.decoder, "decoder")
    encoder, encoder_tokenizer, sentence = None, None, None
    vectors = width_of(texts) if isinstance(model, TextVAESettings) else 0
    if isinstance(model, TextVAESettings):
        names = names or tuple(map(str, range(model.clusters)))
    if vectors:
        _check_given(model, data)
        encoder_tokenizer = decoder_tokenizer
    elif isinstance(model, TextVAESettings):
        encoder, encoder_tokenizer = _source(model.encoder, "encoder")
        sentence = _modules_of(model.encoder, encoder, encoder_tokenizer)
    if decoder_tokenizer is None or (model.kind == "text-vae" and encoder_tokenizer is None):
        seen = with_spellings(texts) if data.randomised else texts
        trained = train_tokenizer(data.tokenizer, seen, data.vocabulary_size)
        decoder_tokenizer = decoder_tokenizer or trained
        encoder_tokenizer = encoder_tokenizer or trained
    special = _special(decoder, decoder_tokenizer)
    codec = make_codec(
        encoder_tokenizer or decoder_tokenizer,
        decoder_tokenizer,
        data.maximum_length,
        special,
        tuple(names),
        data.code_separator,
        sentence.settings if sentence else None,
        vectors,
    )
    _check_positions(decoder, "decoder", data.maximum_length, _spare_positions(model, data))
    if sentence is None:
        _check_positions(encoder, "encoder", data.maximum_length, _SPARE_POSITIONS)
    built = _assemble(model, data, encoder, decoder, codec, texts, sentence, loaded)
    if settings.train.precision == "bf16":
        built.config.frozen_dtype = "bfloat16"
        built.hold_frozen()
    _choose_attention(built, model)
    if model.labels == "given":
        built.label_input.start_prior(codes(labels, data.code_separator))
    return built


def _special(
    decoder: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase
) -> tokens.SpecialIds:
    """The ids around a text, as tokenizer and decoder have them."""
    special = tokens.special_ids(tokenizer)
    start = getattr(decoder.config, "decoder_start_token_id", None) if decoder else None
    return special if start is None else special._replace(start=start)  # T5 has its own


def _check_given(model: _Model, data: _Data) -> None:
    """Refuse settings that need an encoder where texts come with their vectors."""
    assert isinstance(model, TextVAESettings)
    assert isinstance(data, TextDataSettings)
    encoder, remedy = model.encoder, "leave it out, or --embeddings"
    needs = {
        "model.summary": model.summary,
        "model.encoder.source": encoder.source,
        "model.encoder.start_from": encoder.start_from,
        "model.prior": model.prior if model.prior == "vamp" else "",
        "data.deletion": data.deletion,
        "data.masking": data.masking,
    }
    for name, value in needs.items():
        if value:
            raise IsthmusError(
                f"{name}: got {value}, but with --embeddings there is no encoder; {remedy}"
            )


def _choose_attention(built: TextModel, model: _Model) -> None:
    """Let encoder and decoder compute attention as the settings ask; transformers chooses else."""
    roles = ("encoder", "decoder") if isinstance(model, TextVAESettings) else ("decoder",)
    for role, (part, _) in zip(roles, built.stock_models(), strict=True):
        wanted: str = getattr(model, role).attention
        if not wanted:
            continue
        name = f"model.{role}.attention: {part.config.model_type} cannot use {wanted} here"
        with in_one_line(name, f"leave out --model.{role}.attention"):
            part.set_attn_implementation(wanted)
        if part.config._attn_implementation != wanted:
            raise IsthmusError(f"{name}; leave out --model.{role}.attention")


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


def _modules_of(
    settings: CaptionEncoderSettings,
    encoder: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> SentenceModules | None:
    """The modules of a sentence-transformers source, if its own pooling is asked for."""
    found = None
    if settings.pooling == "own" and encoder is not None and tokenizer is not None:
        place = resolve(settings.source)
        positions = getattr(encoder.config, "max_position_embeddings", None)
        found = read_modules(settings.source, place, settings.prompt, tokenizer, positions)
    if settings.prompt and found is None:
        raise IsthmusError(
            f"model.encoder.prompt: got {settings.prompt!r}, and only a sentence-transformers "
            "source with its own pooling has one; leave it out"
        )
    return found


def _output(model: _Model, decoder: PreTrainedModel | None) -> Output:
    """The output layer: a pretrained decoder keeps its own."""
    if decoder is not None:
        return "softmax"
    return "words" if model.decoder.word_vectors else model.decoder.output


def _spare_positions(model: _Model, data: _Data) -> int:
    """Positions of the decoder that no token of a text takes.

    Each part of a bridge may fill some, and the detail of a code with its start token.
    """
    spare = _SPARE_POSITIONS + model.bridge_length * len(bridge_parts(model.bridge))
    return spare + (longest_detail(data.maximum_length) + 1 if data.code_separator else 0)


def _check_positions(model: PreTrainedModel | None, role: str, length: int, spare: int) -> None:
    if model is None:
        return
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0 and length + spare > positions:
        raise IsthmusError(
            f"maximum_length: got {length}, but the {role} has {positions} positions and "
            f"{spare} are spare; use --data.maximum-length {positions - spare} or less"
        )


def _has_null_code(model: _Model, data: _Data) -> bool:
    """Without a label a classifier can fill the gap; a language model needs the null code."""
    needed = isinstance(model, LanguageModelSettings) or data.code_dropout > 0
    return model.labels == "given" and needed


def _config(
    part: StockSettings,
    stock: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    given: dict[str, int | None] | None = None,
) -> object:
    """The configuration of a stock model, as wide as its tokenizer; a fresh one if there is none.

    Args:
        part: Settings of the encoder or the decoder.
        stock: The pretrained model.
        tokenizer: Its tokenizer.
        positions: Longest input of a fresh model.
        given: More fields of the configuration of a fresh model.
    """
    if stock is not None:
        _widen(stock, part, tokenizer)
        return stock.config
    ids = tokens.special_ids(tokenizer)
    special: dict[str, int | None] = {
        "pad_token_id": ids.pad,
        "bos_token_id": ids.start,
        "eos_token_id": ids.end,
        # ModernBERT's own lie beyond this vocabulary, and transformers would warn on every load.
        "cls_token_id": None,
        "sep_token_id": None,
    }
    return fresh_config(part, len(tokenizer), positions, special | (given or {}))


def _widen(
    stock: PreTrainedModel, part: StockSettings, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Give tokens that were added to a tokenizer a row of the embeddings."""
    rows = len(next(stock.get_input_embeddings().parameters()))
    needed = 1 + max(tokenizer.get_vocab().values())
    if needed <= rows:
        return
    missing = f"model source {part.source}: {needed - rows} added tokens of its tokenizer have no"
    if part.tuning != "full":
        raise IsthmusError(
            f"{missing} weights, and tuning {part.tuning} would keep random ones; use tuning "
            "full, or remove these tokens from its tokenizer files"
        )
    logger.warning("%s weights; they start at random", missing)
    stock.resize_token_embeddings(needed)


def _vae(
    config: OptimusConfig,
    model: TextVAESettings,
    encoder: PreTrainedModel | None,
    decoder: PreTrainedModel | None,
    codec: TextCodec,
    texts: Sequence[str],
    sentence: SentenceModules | None,
) -> OptimusModel:
    """Encoder, bridge and decoder, at their start."""
    parts = (config.encoder, config.decoder)
    kinds = " and ".join(part.model_type for part in parts if isinstance(part, PreTrainedConfig))
    with in_one_line(f"model: transformers' {kinds} make no encoder and decoder", _OTHERS):
        built = OptimusModel(config, encoder, decoder, codec)
    if sentence is not None and built.encoder.sentence is not None:
        sentence.fill(built.encoder.sentence)
    if codec.vector_size:
        start_head(built, texts)
        if model.start == "copy":
            start_words(built, texts)
    elif model.start == "copy":
        start_copying(built, texts)
    else:
        built.encoder.start_head(model.encoder.head_scale or FRESH_HEAD)
    return built


def _encoder_values(
    settings: EncoderSettings, encoder: PreTrainedModel | None, codec: TextCodec, positions: int
) -> dict[str, Any]:
    """What the configuration of a VAE says of its encoder."""
    if codec.vector_size:
        return {"encoder": GivenVectorsConfig(hidden_size=codec.vector_size), "pooling": "given"}
    own = codec.sentence is not None
    pooling = "pooler" if settings.pooling == "own" and not own else settings.pooling
    return {
        "encoder": _config(settings, encoder, codec.encoder_tokenizer, positions),
        "encoder_tuning": settings.tuning,
        "encoder_reads_label": settings.reads_label,
        "pooling": pooling,
        "sentence": codec.sentence and codec.sentence.saved(),
    }


def _mean_state(
    model: _Model, decoder: PreTrainedModel | None, codec: TextCodec, texts: Sequence[str]
) -> Tensor | None:
    """Where rows in place of the encoder of a pretrained encoder–decoder model start."""
    if decoder is None or not decoder.config.is_encoder_decoder:
        return None
    if "cross-attention" not in bridge_parts(model.bridge):
        return None
    return mean_state(decoder, codec.decoder_tokenizer, texts, codec.maximum_length)


def _check_trained(built: TextModel) -> None:
    if parameter_count(built)[1] == 0:
        raise IsthmusError(
            "model: a frozen decoder without a latent leaves nothing to train; "
            "use --model.decoder.tuning full or lora"
        )


def _assemble(
    model: _Model,
    data: _Data,
    encoder: PreTrainedModel | None,
    decoder: PreTrainedModel | None,
    codec: TextCodec,
    texts: Sequence[str],
    sentence: SentenceModules | None,
    loaded: bool,
) -> OptimusModel | LanguageModel:
    special, null_code = codec.decoder_special, _has_null_code(model, data)
    positions = data.maximum_length + _spare_positions(model, data)
    latent_size, latents = 0, 1
    if isinstance(model, TextVAESettings):
        latent_size, latents = model.latent_size, model.latents
    width = latents * (latent_size + len(codec.label_names) + null_code)  # y beside each latent
    given: dict[str, int | None] = {}
    for bridge in bridge_parts(model.bridge).values():
        given |= bridge.decoder_options(width)
    shared = {
        "labels": list(codec.label_names) if model.labels == "given" else None,
        "null_code": null_code,
        "code_separator": codec.code_separator,
        "decoder": _config(model.decoder, decoder, codec.decoder_tokenizer, positions, given),
        "decoder_tuning": model.decoder.tuning,
        "decoder_start": special.start,
        "decoder_end": special.end,
        "decoder_pad": special.pad,
        "decoder_pretrained": decoder is not None,
        "decoder_output": _output(model, decoder),
    }
    built: LanguageModel | OptimusModel
    context = None if loaded else _mean_state(model, decoder, codec, texts)
    if isinstance(model, TextVAESettings):
        shared |= _encoder_values(model.encoder, encoder, codec, positions)
        shared["prior"] = DISCRETE.get(model.posterior, model.prior)
        config = OptimusConfig(**{**shared_fields(model, OptimusConfig), **shared})
        built = _vae(config, model, encoder, decoder, codec, texts, sentence)
    else:
        shared["even_codes"] = data.sampling == "balanced"
        built = LanguageModel(
            LanguageConfig(**{**shared_fields(model, LanguageConfig), **shared}), decoder, codec
        )
    if source := model.decoder.word_vectors:
        start_word_vectors(built.decoder.model, codec.decoder_tokenizer, source)
        if isinstance(built, LanguageModel):
            built.begin_codes()
    if isinstance(built, OptimusModel) and not codec.vector_size:
        check_encoder(built.encoder, codec.encoder_special.pad, encoder is None)
    check_text_model(built, data.maximum_length, decoder is None)
    _check_trained(built)
    if loaded or not isinstance(model, TextVAESettings) or model.start == "copy":
        return built
    assert isinstance(built, OptimusModel)
    scaled = not model.encoder.head_scale
    if decoder is not None:
        start_at_decoder(built, texts, scale_head=scaled, context=context)
    elif scaled and (encoder is not None or built.codebook is not None):
        scale_head(built, texts)
    return built
