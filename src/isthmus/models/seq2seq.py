"""p(x|z) by the decoder half of an encoder–decoder model: T5, BART and their kin."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from isthmus.models.decoder import Decoder
from isthmus.models.generation import SpecialTokens
from isthmus.models.output import Output, give_output


@final
class _NoEncoder(nn.Module):
    """Replaces the encoder of an encoder–decoder model: z takes its place."""

    main_input_name = "input_ids"  # transformers' generation asks for it


@final
class _NoStates(BaseModelOutput):
    """An encoder output without states, for which the model skips its cross-attention."""

    def __getitem__(self, _: object) -> Any:
        return None


def _states(context: Tensor | None) -> BaseModelOutput:
    return _NoStates() if context is None else BaseModelOutput(last_hidden_state=context)


@final
class Seq2SeqDecoder(Decoder):
    """The decoder half of an encoder–decoder model, as any bridge conditions it.

    "cross-attention" gives it the encoder output that it was trained to read, and is the natural
    choice. The other bridges leave out the cross-attention with its layer norm, as T5-VAE does
    (Park & Lee 2021): "memory" is T5-VAE's slot of self-attention. T5's relative positions take a
    slot for the token before the text; BART's learned ones count it as the first position.
    """

    def __init__(self, model: PreTrainedModel, special: SpecialTokens) -> None:
        super().__init__(model, special)
        model.base_model.encoder = _NoEncoder()

    @classmethod
    def from_config(
        cls, config: PreTrainedConfig, special: SpecialTokens, output: Output = "softmax"
    ) -> Seq2SeqDecoder:
        """With fresh weights and that output layer."""
        if output == "softmax":
            return cls(AutoModelForSeq2SeqLM.from_config(config), special)
        if hasattr(config, "scale_decoder_outputs"):
            config.scale_decoder_outputs = False  # only for a tied output layer
        model = AutoModelForSeq2SeqLM.from_config(config)
        give_output(model, output)
        return cls(model, special)

    @property
    def stack(self) -> PreTrainedModel:
        """The decoder half."""
        return self.model.get_decoder()

    @property
    def context_size(self) -> int:
        """Width of the encoder that was replaced."""
        return self.model.config.hidden_size

    def logits(self, hidden: Tensor) -> Tensor:
        """With T5's scaling of tied embeddings and BART's bias."""
        if getattr(self.model.config, "scale_decoder_outputs", False):
            hidden = hidden * self.model.config.d_model**-0.5
        logits = super().logits(hidden)
        if (bias := getattr(self.model, "final_logits_bias", None)) is not None:
            logits = logits + bias[0]
        return logits

    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """One plain forward pass over the context."""
        return self.model(encoder_outputs=_states(context), decoder_input_ids=ids).logits
