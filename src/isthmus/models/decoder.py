"""p(x|z) by a stock transformers language model, conditioned only through its public inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoModelForCausalLM,
    Cache,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from isthmus.errors import IsthmusError
from isthmus.models import dilated, lstm  # noqa: F401 - transformers learns of them here
from isthmus.models.bridges import Conditioning, DecoderShape
from isthmus.models.generation import Generation, Source, SpecialTokens, write
from isthmus.models.inspection import cache_sizes, modules_called, without_storage
from isthmus.models.memory import fit_on
from isthmus.models.output import AdaptiveOutput, Output, give_output
from isthmus.models.stateful import StateCache, StatefulConfig

LOGITS_AT_ONCE = 2**21
"""Logits held at a time, 8 MiB in float32. Computing chunks again in the backward pass costs
little time beside holding all logits (benchmarks/chunks.py), and bounds memory."""

FEWEST_ROWS = 256
"""Tokens in a chunk at least: with fewer, reading a large vocabulary's weights over and over costs
more than the logits."""


class Decoder(nn.Module, ABC):
    """A stock language model seen as p(x|z).

    Arguments:
        model: the language model; its own generation defaults are put away, because a repetition
            penalty or a forced token would make its text no draw from p(x|z).
        special: ids around its texts.
    """

    def __init__(self, model: PreTrainedModel, special: SpecialTokens) -> None:
        super().__init__()
        self.model = model
        self.special = special
        model.generation_config = GenerationConfig()

    @classmethod
    @abstractmethod
    def from_config(
        cls, config: PreTrainedConfig, special: SpecialTokens, output: Output = "softmax"
    ) -> Self:
        """With fresh weights and that output layer."""

    @property
    @abstractmethod
    def stack(self) -> PreTrainedModel:
        """The part of the model from token embeddings to last hidden states."""

    @property
    @abstractmethod
    def context_size(self) -> int | None:
        """Width that cross-attention expects; none where there is no cross-attention."""

    @abstractmethod
    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """The model's own logits [N T V] of decoder inputs [N T] and a context, if it has one."""

    @property
    def positions(self) -> int | None:
        """Positions that the model has, slots of the bridge included; none without a limit."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return positions if positions and positions > 0 else None

    def shape(self) -> DecoderShape:
        """What a bridge has to know."""
        width = self.stack.get_input_embeddings().weight.shape[1]
        return DecoderShape(width, cache_sizes(self._double()), self.context_size)

    def fix_unread(self, conditioning: Conditioning) -> None:
        """Keep fixed what no output depends on: without a context, cross-attention is skipped.

        Arguments:
            conditioning: what the bridge makes of any z.
        """
        if self.context_size is None or conditioning.context is not None:
            return
        double = self._double()
        unread = modules_called(double, self.context_size) - modules_called(double, None)
        for name in unread:
            self.stack.get_submodule(name).requires_grad_(False)

    def _double(self) -> PreTrainedModel:
        return without_storage(
            lambda config: self.from_config(config, self.special).stack, self.model.config
        )

    def hidden(self, conditioning: Conditioning, ids: Tensor) -> Tensor:
        """Last hidden states [N T H] of decoder inputs [N T], in one teacher-forced pass.

        Right padding needs no mask: no token looks to its right.
        """
        embedded = self.embedded(conditioning, ids)
        skip = 0
        if conditioning.prefix is not None:
            skip = conditioning.prefix.shape[1]
            embedded = torch.cat([conditioning.prefix.to(embedded), embedded], dim=1)
        cache = None
        if conditioning.state is not None:
            cache = self._cache(conditioning)
        elif conditioning.memory is not None:
            self._check_checkpointing()
            cache = self._cache(conditioning)
        output = self.stack(
            inputs_embeds=embedded,
            past_key_values=cache,
            use_cache=False,
            **conditioning.stack_inputs,
        )
        return output.last_hidden_state[:, skip:]

    def embedded(self, conditioning: Conditioning, ids: Tensor, begins: bool = True) -> Tensor:
        """Token embeddings [N T E] as the conditioning changes them.

        Arguments:
            conditioning: what the bridge made of z.
            ids: decoder inputs, [N T].
            begins: the first of them is the start token.
        """
        return conditioning.embed(self.stack.get_input_embeddings()(ids), begins)

    def _cache(self, conditioning: Conditioning) -> Cache:
        """A cache that holds the memory; a new one each time, because a forward pass fills it."""
        config = self.stack.config
        cache = DynamicCache(config=config)
        for layer, slots in enumerate(conditioning.memory or ()):
            cache.update(slots, slots, layer)
        if conditioning.context is None:
            return cache
        # Cross-attention keeps its keys apart; one cache for both would mix them with the text's.
        return EncoderDecoderCache(cache, DynamicCache(config=config))

    def _check_checkpointing(self) -> None:
        if self.training and any(
            getattr(module, "gradient_checkpointing", False) for module in self.model.modules()
        ):
            raise IsthmusError(
                "gradient checkpointing makes transformers drop the cache, and with it the memory "
                "that carries z; use --model.bridge prefix, or leave checkpointing off"
            )

    def started_cache(self, conditioning: Conditioning) -> Cache:
        """The cache from which generation starts: the memory, then the prefix."""
        cache = self._cache(conditioning)
        if conditioning.prefix is not None:
            self.stack(
                inputs_embeds=conditioning.prefix.clone(),  # CTRL scales it in place
                past_key_values=cache,
                use_cache=True,
                **conditioning.stack_inputs,
            )
        return cache

    def continued(
        self, conditioning: Conditioning, ids: Tensor, cache: Cache, begins: bool
    ) -> Tensor:
        """Logits [N V] after these further tokens [N T]; the cache is updated in place."""
        output = self.stack(
            inputs_embeds=self.embedded(conditioning, ids, begins),
            past_key_values=cache,
            use_cache=True,
            **conditioning.stack_inputs,
        )
        return self.logits(output.last_hidden_state[:, -1])

    def token_losses(self, conditioning: Conditioning, ids: Tensor, targets: Tensor) -> Tensor:
        """−log p of every predicted token in nats, 0 where there is no target, [N T].

        Only positions with a target (≥ 0) reach the output layer: padding costs no logits.

        Arguments:
            conditioning: what the bridge made of z.
            ids: decoder inputs, start token first, [N T].
            targets: the next tokens, end token last, −100 where there is none, [N T].
        """
        wanted = targets >= 0
        hidden = self.hidden(conditioning, ids)[wanted]  # [M H], M tokens in the batch
        losses = self._token_losses(hidden, targets[wanted])
        return losses.new_zeros(targets.shape).masked_scatter(wanted, losses)

    def reconstruction(self, conditioning: Conditioning, ids: Tensor, targets: Tensor) -> Tensor:
        """−log p(x|z) in nats of every example, a sum over its predicted tokens, [N]."""
        return self.token_losses(conditioning, ids, targets).sum(-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """The stock model's logits of hidden states, its scalings included.

        The four attributes are all that transformers' language models do after their output
        layer; :func:`check_output_layer` holds a model against its own forward pass.
        """
        config = self.model.config
        logits = self.model.get_output_embeddings()(hidden)
        if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits = logits * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits = logits / scaling
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma
            logits = torch.tanh(logits / cap) * cap
        return logits

    def _token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """−log p of every target: hidden [M H], targets [M] → [M], nats."""
        output = self.model.get_output_embeddings()
        if isinstance(output, AdaptiveOutput):
            return output(hidden, targets)

        def losses(some_hidden: Tensor, some_targets: Tensor) -> Tensor:
            logits = self.logits(some_hidden).float()
            return functional.cross_entropy(logits, some_targets, reduction="none")

        at_once = fit_on(hidden.device, LOGITS_AT_ONCE)
        rows = max(FEWEST_ROWS, at_once // self.model.config.get_text_config().vocab_size)
        if len(targets) <= rows:
            return losses(hidden, targets)
        chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([losses(*chunk) for chunk in chunks])
        # Recomputing a chunk's logits in the backward pass keeps one chunk alive instead of all.
        return torch.cat([checkpoint(losses, *chunk, use_reentrant=False) for chunk in chunks])

    def generate(
        self, conditioning: Conditioning, count: int, settings: Generation
    ) -> list[list[int]]:
        """Token ids of N texts from p(x|z), without start and end tokens."""
        source = Stream(self, conditioning.repeat(settings.beams))
        begin = torch.tensor([self.special.start], device=self.device)
        return write(source, count, begin, begin[:0], settings, self.special)

    @property
    def device(self) -> torch.device:
        """Where the token embeddings are."""
        return self.stack.get_input_embeddings().weight.device


@final
class Stream(Source):
    """A decoder at work under one conditioning.

    Where the model's positions are full, it goes on from what it was conditioned on, the start
    token and the last tokens: a window that slides, three quarters of it kept at a time, and that
    never loses the code (Keskar et al. 2019 slide by one token; each slide costs a whole pass).

    Arguments:
        decoder: p(x|z).
        conditioning: what the bridge made of z, a row for each text.
    """

    def __init__(self, decoder: Decoder, conditioning: Conditioning) -> None:
        self.decoder, self.conditioning = decoder, conditioning
        room = decoder.positions
        self.room = None if room is None else room - conditioning.slots
        self.ids: Tensor | None = None
        self.cache: Cache

    def read(self, ids: Tensor) -> Tensor:
        """Logits [N V] after these further tokens [N T]; the first one of all starts the text."""
        begins = self.ids is None
        self.ids = ids if self.ids is None else torch.cat([self.ids, ids], dim=1)
        if self.room is not None and self.ids.shape[1] > self.room:
            begins = True
            last = self.ids[:, 1:][:, -(3 * self.room // 4) :]
            self.ids = ids = torch.cat([self.ids[:, :1], last], dim=1)
        if begins:
            self.cache = self.decoder.started_cache(self.conditioning)
        return self.decoder.continued(self.conditioning, ids, self.cache, begins)

    def keep(self, rows: Tensor) -> None:
        """Beams of one text share their conditioning, which therefore stays."""
        assert self.ids is not None
        self.ids = self.ids[rows]
        self.cache.reorder_cache(rows)


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
        return self.model.base_model

    @property
    def context_size(self) -> int | None:
        """Its own width, in models made with ``add_cross_attention``."""
        config = self.model.config
        return config.hidden_size if getattr(config, "add_cross_attention", False) else None

    def shape(self) -> DecoderShape:
        """What a bridge has to know; models that carry a state have no cache to look into."""
        config = self.model.config
        if not isinstance(config, StatefulConfig):
            return super().shape()
        width = self.stack.get_input_embeddings().weight.shape[1]
        state = getattr(config, "state_size", None)
        return DecoderShape(width, state_size=state, input_size=config.latent_input)

    def _cache(self, conditioning: Conditioning) -> Cache:
        """A cache that holds the memory, or the state of a model that carries one."""
        if not isinstance(self.model.config, StatefulConfig):
            return super()._cache(conditioning)
        state = conditioning.state
        return StateCache(None if state is None else self.stack.start(state))

    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """One plain forward pass."""
        given = {} if context is None else {"encoder_hidden_states": context}
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits


@torch.no_grad()
def check_output_layer(decoder: Decoder) -> None:
    """Hold :meth:`Decoder.logits` against the model's own forward pass on four tokens.

    Raises:
        IsthmusError: where a model does something after its output layer that is not known here.
    """
    weight = decoder.stack.get_input_embeddings().weight
    ids = torch.arange(4, device=weight.device).unsqueeze(0)
    size = decoder.context_size
    context = None if size is None else weight.new_ones(1, 1, size)
    training = decoder.training
    decoder.eval()
    stock = decoder.stock_logits(context, ids)
    ours = decoder.logits(decoder.hidden(Conditioning(context=context), ids))
    decoder.train(training)
    if not torch.allclose(stock, ours, atol=1e-5, rtol=1e-4):
        raise IsthmusError(
            f"{type(decoder.model).__name__} changes its logits in a way that Isthmus does not "
            f"know (largest difference {(stock - ours).abs().max():.3g}); choose another decoder"
        )
