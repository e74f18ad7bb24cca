"""What all models of texts share: p(x|z, y) by a decoder that a bridge conditions.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from isthmus.data.corpus import TEXT
from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.base import LatentModel
from isthmus.models.bridges import bridge_parts
from isthmus.models.causal import CausalDecoder
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.conditioning import Conditioning
from isthmus.models.decoder import OTHER_DECODER, Decoder, Stream
from isthmus.models.generation import Generation, Source, SpecialTokens, write
from isthmus.models.label_input import LabelInput
from isthmus.models.labels import NO_LABELS, Labelled, LabelledConfig, LabelSet, labelled
from isthmus.models.output import Output
from isthmus.models.quick import quicken
from isthmus.models.recompute import keep_caches, recomputing
from isthmus.models.seq2seq import Seq2SeqDecoder
from isthmus.models.tuning import Tuning, apply_tuning, freeze, hold, widest_type


@strict
class TextConfig(LabelledConfig):
    """The configuration of a model of texts.

    Args:
        decoder: of the stock language model.
        decoder_tuning: "full", "lora" or "frozen".
        lora_rank: rank of the LoRA updates.
        frozen_dtype: type of the weights that the tunings keep fixed, see
            :meth:`TextModel.hold_frozen`.
        decoder_start, decoder_end, decoder_pad: ids around a text on the decoder's side.
        decoder_pretrained: the decoder came with weights, for which the bridge of a VAE has
            constants, see :class:`isthmus.models.conditioning.DecoderShape`.
        decoder_output: "softmax", or "adaptive" or "words" for a fresh decoder, see
            :mod:`isthmus.models.output`.
        bridge: how z or y enters the decoder, see :mod:`isthmus.models.bridges`.
        bridge_length: soft tokens or context vectors per latent.
        clusters: number of values of y if it is learned without labels; they are its names.
        null_code: y can also be "no label", see :class:`isthmus.models.label_input.LabelInput`.
        code_separator: what separates a label from free text after it, see
            :func:`isthmus.data.labelled.split_label`.
    """

    decoder: PreTrainedConfig | dict[str, Any] | None = None
    decoder_tuning: Tuning = "full"
    lora_rank: int = 8
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    decoder_start: int = 1
    decoder_end: int | None = 2
    decoder_pad: int = 0
    decoder_pretrained: bool = False
    decoder_output: Output = "softmax"
    bridge: str = "start"
    bridge_length: int = 1
    clusters: int = 0
    null_code: bool = False
    code_separator: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the C values of y; empty for a model without labels."""
        return tuple(self.labels or map(str, range(self.clusters)))


class TextModel(Labelled, ABC):
    """p(x|z, y) of texts; z or y or both may be absent."""

    config: TextConfig
    codec: TextCodec
    decoder: Decoder
    labels: LabelInput | None
    supports_gradient_checkpointing = True

    @property
    def dtype(self) -> torch.dtype:
        """Of what is trained; fixed parts may be held in a narrower type."""
        return widest_type(self)

    @abstractmethod
    def conditioning(self, z: Tensor, y: Tensor | None = None) -> Conditioning:
        """What the bridge gives the decoder for z [N P] (or [N K P]) and y [N size]."""

    @property
    def label_input(self) -> LabelInput:
        """y as the decoder reads it.

        Raises:
            IsthmusError: the model has no labels.
        """
        if self.labels is None:
            raise IsthmusError(NO_LABELS)
        return self.labels

    @property
    def label_set(self) -> LabelSet:
        """Labels that the decoder reads."""
        of = self.config
        return LabelSet(of.label_names, True, of.clusters > 0, of.null_code, of.code_separator)

    def freeze(self) -> None:
        """Train what the decoder's tuning names, and never what no output depends on."""
        freeze(self.decoder.model, self.config.decoder_tuning)
        y = None if self.labels is None else self.labels.one_hot(0, 1)
        self.decoder.fix_unread(self.conditioning(torch.zeros(1, *self.latent_shape), y))

    def stock_models(self) -> list[tuple[PreTrainedModel, Tuning]]:
        """The stock models, the decoder last, and what of them is trained."""
        return [(self.decoder.model, self.config.decoder_tuning)]

    def recompute(self) -> None:
        """Compute layers of stock models again in the backward pass: what they made is not kept.

        Raises:
            IsthmusError: they cannot be.
        """
        if "middle" in bridge_parts(self.config.bridge):
            raise IsthmusError(
                "gradient checkpointing: the bridge middle is gone when a layer is recomputed; "
                "leave out --train.gradient-checkpointing"
            )
        self._set_gradient_checkpointing()

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] = recomputing,
        every_n_layers: int = 1,
    ) -> None:
        """As transformers does it, but by a function that leaves the memory of a bridge."""
        try:
            super()._set_gradient_checkpointing(enable, recomputing, every_n_layers)
        except ValueError as error:
            kinds = " and ".join(part.config.model_type for part, _ in self.stock_models())
            raise IsthmusError(
                f"gradient checkpointing: transformers' {kinds} cannot be recomputed; "
                "leave out --train.gradient-checkpointing"
            ) from error
        keep_caches(self)

    def tune(self) -> None:
        """Put LoRA updates on stock models, and hold their fixed weights, as configured.

        What a CPU computes slowly is exchanged first, see :mod:`isthmus.models.quick`.

        At the end of ``__init__``: transformers would take the zeros that LoRA starts from for
        uninitialised.
        """
        for part, tuning in self.stock_models():
            quicken(part)
            apply_tuning(part, tuning, self.config.lora_rank)
        if self.config.frozen_dtype != "float32":
            self.hold_frozen()

    def hold_frozen(self) -> None:
        """Hold the weights that are not trained in ``frozen_dtype``, and compute with them in it.

        In bf16 they take half the memory. What is trained stays in float32.
        """
        for part, tuning in self.stock_models():
            hold(part, tuning, getattr(torch, self.config.frozen_dtype))

    def token_losses(self, z: Tensor, y: Tensor | None, batch: Batch) -> Tensor:
        """−log p(x_t|x_<t, z, y) of S·N latents under the N texts of a batch, [S·N T], nats."""
        samples = len(z) // len(batch["targets"])
        return self.decoder.token_losses(
            self.conditioning(z, y),
            batch["decoder_input_ids"].repeat(samples, 1),
            batch["targets"].repeat(samples, 1),
        )

    def label_token_losses(
        self, z: Tensor, batch: Batch, places: Sequence[int] | None = None
    ) -> Tensor:
        """−log p(x_t|x_<t, z, y) under each label: z [S N P] → [C S N T], nats.

        Args:
            z: latents, as for :meth:`reconstruction`.
            batch: N texts.
            places: of the C labels, −1 for the null code; all labels if absent.
        """
        flat = z.flatten(0, 1)
        every = self.label_input.each(places, len(flat))
        losses = torch.stack([self.token_losses(flat, y, batch) for y in every])
        return losses.unflatten(1, z.shape[:2])

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x|z): z [S N P] (or [S N K P]) → [S N], nats, end token included.

        With labels −log Σ_y p(y) p(x|z, y), one pass of the decoder per label.
        """
        if self.labels is None:
            return self.token_losses(z.flatten(0, 1), None, batch).sum(-1).view(z.shape[:2])
        losses = self.label_token_losses(z, batch).sum(-1)
        return self.labels.summed_out(losses.flatten(1)).view(z.shape[:2])

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """Texts for latents [N P], including their prompt; :class:`LabelInput` chooses their y."""

        def under(y: Tensor | None) -> Stream:
            return Stream(self.decoder, self.conditioning(z, y).repeat(generation.beams))

        source: Source
        steered = generation.label or generation.mixture or generation.guidance != 1
        if self.labels is None and not steered:
            source = under(None)
        else:
            source = self.label_input.source(under, len(z), generation)
        ids = self.codec.begin(generation.detail), self.codec.ids(generation.prompt)
        begin, prompt = (torch.tensor(part, dtype=torch.long, device=self.device) for part in ids)
        rows = write(source, len(z), begin, prompt, generation, self.decoder.special)
        return self.codec.text(rows)


def build_decoder(config: TextConfig, model: PreTrainedModel | None) -> Decoder:
    """The decoder of any stock language model; of an encoder–decoder model, its decoder half.

    Args:
        config: which model it is, the ids around its texts, and the output layer of a fresh one.
        model: a stock model to take as it is; a fresh one if absent.
    """
    assert isinstance(config.decoder, PreTrainedConfig)
    kind = Seq2SeqDecoder if config.decoder.is_encoder_decoder else CausalDecoder
    special = SpecialTokens(config.decoder_start, config.decoder_end, config.decoder_pad)
    if model is not None:
        return kind(model, special)
    name = f"decoder: transformers cannot build a {config.decoder.model_type} of this size"
    with in_one_line(name, OTHER_DECODER):
        return kind.from_config(config.decoder, special, config.decoder_output)


def build_label_input(
    config: TextConfig, hidden_size: int = 0, adversary_size: int = 0
) -> LabelInput | None:
    """y as a configuration describes it; None without labels. Sizes as for LabelInput."""
    names = config.label_names
    return LabelInput(names, config.null_code, hidden_size, adversary_size) if names else None


def text_model(model: LatentModel) -> TextModel:
    """The model as one of texts.

    Raises:
        IsthmusError: it models something else.
    """
    if not isinstance(model, TextModel):
        raise IsthmusError(f"model: got {model.config.model_type}, expected a model of texts")
    return model


def hold_decoder(model: LatentModel) -> None:
    """Hold the decoder of a model's texts in bf16, and compute with it in bf16.

    Raises:
        IsthmusError: there is none.
    """
    part = model.member(TEXT)
    if not isinstance(part, TextModel):
        raise IsthmusError(
            "precision: got bf16, which is for the decoder of texts, and this run has none; use "
            "--precision float32"
        )
    hold(part.decoder.model, "frozen", torch.bfloat16)


def label_reader(model: LatentModel) -> TextModel:
    """The model as one whose decoder reads a label.

    Raises:
        IsthmusError: it has no labels, or predicts them from z.
    """
    known = labelled(model)
    if not isinstance(known, TextModel):
        raise IsthmusError("label: this model predicts it from z; expected one that reads a label")
    return known


def sample_labels(model: LatentModel, count: int, generator: torch.Generator) -> list[str]:
    """Labels from p(y) for a decoder that reads them; empty for other models."""
    if not isinstance(model, TextModel) or model.labels is None:
        return []
    return model.labels.sample(count, generator)
