"""p(x|z) by a causal language model: GPT-2, Llama and their kin, and the project's own ones."""

from __future__ import annotations

from typing import Any, cast, final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache, PreTrainedConfig, PreTrainedModel

from isthmus.models import dilated, feed_forward, lstm  # noqa: F401 - transformers learns of them here
from isthmus.models.conditioning import Conditioning, DecoderShape
from isthmus.models.decoder import Decoder
from isthmus.models.generation import SpecialTokens
from isthmus.models.inspection import token_embeddings
from isthmus.models.output import Output, give_output
from isthmus.models.stateful import StateCache, StatefulConfig


@final
class CausalDecoder(Decoder):
    """Any causal language model of transformers, or one of ours that carries a state."""

    @classmethod
    def from_config(
        cls, config: PreTrainedConfig, special: SpecialTokens, output: Output = "softmax"
    ) -> CausalDecoder:
        """With fresh weights and that output layer."""
        if output == "softmax":
            return cls(AutoModelForCausalLM.from_config(config), special)
        config.tie_word_embeddings = False
        model = AutoModelForCausalLM.from_config(config)
        give_output(model, output)
        return cls(model, special)

    @property
    def stack(self) -> PreTrainedModel:
        """The language model without its output layer."""
        return cast(PreTrainedModel, self.model.base_model)

    @property
    def context_size(self) -> int | None:
        """Its own width, in models made with ``add_cross_attention``."""
        config = self.model.config
        return config.hidden_size if getattr(config, "add_cross_attention", False) else None

    def shape(self) -> DecoderShape:
        """What a bridge has to know; models that carry a state have no key/value cache."""
        config = self.model.config
        if not isinstance(config, StatefulConfig):
            return super().shape()
        width = token_embeddings(self.stack).shape[1]
        state = getattr(config, "state_size", None)
        return DecoderShape(
            width,
            state_size=state,
            input_size=config.latent_input,
            output_size=self.output_size,
        )

    def _cache(self, conditioning: Conditioning) -> Cache:
        """A cache that holds the memory, or the state of a model that carries one."""
        if not isinstance(self.model.config, StatefulConfig):
            return super()._cache(conditioning)
        if conditioning.state is None:
            return StateCache(None)
        return StateCache(cast(Any, self.stack).start(conditioning.state))

    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """One plain forward pass."""
        given = {} if context is None else {"encoder_hidden_states": context}
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits
