"""p(x|z) by the decoder half of an encoder–decoder model: T5, BART and their kin."""

from __future__ import annotations

from typing import Any, Final, final

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

_SCALES_TIED: Final = ("umt5", "switch_transformers")
"""Types that scale before a tied output layer, without T5's ``scale_decoder_outputs``."""


@final
class _NoEncoder(nn.Module):
    """Replaces the encoder of an encoder–decoder model: z takes its place."""

    main_input_name = "input_ids"  # transformers' generation asks for it

    def __init__(self, decoder: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = (decoder,)  # in a tuple, because it is no part of this module

    def get_input_embeddings(self) -> nn.Module:
        """Those of the decoder; Marian has no others to find its output layer by."""
        return self.decoder[0].get_input_embeddings()


class _States(BaseModelOutput):
    """An encoder output with states; Switch also asks it for the logits of its routers."""

    router_logits = None


@final
class _NoStates(_States):
    """An encoder output without states, for which the model skips its cross-attention."""

    def __getitem__(self, _: object) -> Any:
        return None


def _states(context: Tensor | None) -> BaseModelOutput:
    return _NoStates() if context is None else _States(last_hidden_state=context)


def _scales(config: PreTrainedConfig) -> bool:
    """Whether the model scales hidden states before its output layer."""
    tied = config.model_type in _SCALES_TIED and config.tie_word_embeddings
    return getattr(config, "scale_decoder_outputs", tied)


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
        self.encoder_size: int = model.get_encoder().config.hidden_size
        model.base_model.encoder = _NoEncoder(model.get_decoder())

    @classmethod
    def from_config(
        cls, config: PreTrainedConfig, special: SpecialTokens, output: Output = "softmax"
    ) -> Seq2SeqDecoder:
        """With fresh weights and that output layer."""
        if output == "softmax":
            return cls(AutoModelForSeq2SeqLM.from_config(config), special)
        if _scales(config):  # only for a tied output layer
            tied = config.model_type in _SCALES_TIED
            setattr(config, "tie_word_embeddings" if tied else "scale_decoder_outputs", False)
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
        return self.encoder_size

    def _rounded_logits(self, hidden: Tensor) -> Tensor:
        """With T5's scaling of tied embeddings and BART's bias."""
        if _scales(self.model.config):
            hidden = hidden * self.model.config.d_model**-0.5
        logits = super()._rounded_logits(hidden)
        if (bias := getattr(self.model, "final_logits_bias", None)) is not None:
            logits = logits + bias[0]
        return logits

    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """One plain forward pass over the context."""
        return self.model(encoder_outputs=_states(context), decoder_input_ids=ids).logits
