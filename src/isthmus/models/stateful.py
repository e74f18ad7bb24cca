"""Language models that carry a state from token to token instead of a key/value cache.

transformers has no LSTM, no dilated CNN and no network without context, so Isthmus brings them
(:mod:`isthmus.models.lstm`, :mod:`isthmus.models.dilated`, :mod:`isthmus.models.feed_forward`).
They implement its interface, so everything else, including generation and saving, treats them like
any other model of transformers.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import Cache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


@strict
class StatefulConfig(PreTrainedConfig):
    """The configuration of each kind.

    Args:
        vocab_size: V.
        embedding_size: E, width of the token embeddings; 0 for the hidden size.
        hidden_size: H, width of the last hidden states.
        num_hidden_layers: layers of the network.
        dropout: on embeddings, between layers and on the last hidden states.
        latent_input: width of the vector that joins the embedding of every token; 0 for none.
    """

    vocab_size: int = 10_000
    embedding_size: int = 0
    hidden_size: int = 256
    num_hidden_layers: int = 1
    dropout: float = 0.0
    latent_input: int = 0
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False

    @property
    def input_size(self) -> int:
        """Width of what the network reads at every token: embedding ⊕ latent input."""
        return (self.embedding_size or self.hidden_size) + self.latent_input


@final
class StateCache(Cache):
    """What a network remembers of the tokens so far, as tensors whose first dimension is N.

    Args:
        states: made by the network; None before the first token.
    """

    is_compileable = False

    def __init__(self, states: tuple[Tensor, ...] | None = None) -> None:
        super().__init__(layers=[])
        self.states = states
        self.length = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows of the surviving beams."""
        if self.states is not None:
            self.states = tuple(state.index_select(0, beam_idx) for state in self.states)

    def advance(self, states: tuple[Tensor, ...], tokens: int) -> None:
        """Replace the states by those after more tokens."""
        self.states = states
        self.length += tokens


class StatefulNetwork(PreTrainedModel, ABC):
    """Token embeddings and a causal network over them.

    ``run`` is one code path for a whole text and for its next token: incremental generation
    equals the full pass by construction.
    """

    config: StatefulConfig
    base_model_prefix = "model"

    def __init__(self, config: StatefulConfig) -> None:
        super().__init__(config)
        width = config.embedding_size or config.hidden_size
        embeddings = nn.Embedding(config.vocab_size, width)
        nn.init.uniform_(embeddings.weight, -0.1, 0.1)  # Li et al. 2019, their code
        self.embeddings: nn.Module = embeddings
        self.dropout = nn.Dropout(config.dropout)

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: every part initialises itself."""

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace them."""
        self.embeddings = value

    @abstractmethod
    def run(
        self, inputs: Tensor, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Hidden states [N T H] of inputs [N T E+latent_input], and the states after them."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        latent_input: Tensor | None = None,
        past_key_values: StateCache | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of token ids [N T] or embeddings [N T E].

        Padding on the right needs no mask, because no token reads what is to its right; the
        hidden states of padding mean nothing.

        Args:
            input_ids: token ids, or else
            inputs_embeds: their embeddings.
            attention_mask: ignored.
            latent_input: the vector that joins every token's embedding, [N latent_input]; zero
                if absent.
            past_key_values: states to continue from; updated in place.
            use_cache: return the states even if none were given.
        """
        embedded = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        embedded = self.dropout(embedded)
        if self.config.latent_input:
            if latent_input is None:
                latent_input = embedded.new_zeros(len(embedded), self.config.latent_input)
            rows = latent_input.to(embedded).unsqueeze(1).expand(-1, embedded.shape[1], -1)
            embedded = torch.cat([embedded, rows], dim=-1)
        cache = StateCache() if past_key_values is None else past_key_values
        hidden, states = self.run(embedded, cache.states)
        if use_cache or past_key_values is not None:
            cache.advance(states, embedded.shape[1])
        return BaseModelOutputWithPast(
            last_hidden_state=self.dropout(hidden), past_key_values=cache if use_cache else None
        )


class StatefulLanguageModel(PreTrainedModel, GenerationMixin, ABC):
    """A network with an output layer."""

    config: StatefulConfig
    base_model_prefix = "model"
    network: ClassVar[type[StatefulNetwork]]

    def __init__(self, config: StatefulConfig) -> None:
        super().__init__(config)
        self.model = self.network(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        nn.init.normal_(self.lm_head.weight, std=config.hidden_size**-0.5)
        nn.init.zeros_(self.lm_head.bias)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: every part initialises itself."""

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace it."""
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        latent_input: Tensor | None = None,
        past_key_values: StateCache | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [N T V]; arguments as for the network."""
        output = self.model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            latent_input=latent_input,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        return CausalLMOutputWithPast(
            logits=self.lm_head(output.last_hidden_state), past_key_values=output.past_key_values
        )
