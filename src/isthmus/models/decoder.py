"""p(x|z) by a stock transformers language model, conditioned only through its public inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

from isthmus.bridge import Conditioning, DecoderShape
from isthmus.errors import IsthmusError
from isthmus.models import dilated, lstm  # noqa: F401 - transformers learns of them here
from isthmus.models.double import cache_sizes, modules_called, without_storage
from isthmus.models.output import AdaptiveOutput, Output, give_adaptive_output
from isthmus.models.stateful import StateCache, StatefulConfig

LOGITS_AT_ONCE = 2**21
"""Logits held at a time, 8 MiB in float32. Computing chunks again in the backward pass costs
little time beside holding all logits (benchmarks/chunks.py), and bounds memory."""

FEWEST_ROWS = 256
"""Tokens in a chunk at least: with fewer, reading a large vocabulary's weights over and over costs
more than the logits."""

ON_A_GPU = 32
"""So many times more is held at a time there (logits: 256 MiB)."""


@final
@dataclass(frozen=True)
class Generation:
    """How text is drawn from p(x|z).

    Arguments:
        max_new_tokens: hard limit; generation ends earlier at the end token.
        sample: draw from the distribution instead of taking its most probable token.
        temperature, top_k, top_p: shape that distribution; 0 and 1.0 turn the cuts off.
        beams: width of beam search, 1 for none.
        seed: of sampling.
        label: the label that the texts shall have, of a model with labels; without it
            :meth:`isthmus.models.labels.LabelPart.chosen` chooses one.
    """

    max_new_tokens: int = 64
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    seed: int = 0
    label: str | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.beams < 1:
            raise IsthmusError(
                f"max_new_tokens and beams must be ≥ 1, got {self.max_new_tokens} and {self.beams}"
            )
        if not 0 < self.temperature < float("inf") or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise IsthmusError(
                "expected temperature > 0, 0 < top_p ≤ 1 and top_k ≥ 0, got "
                f"{self.temperature}, {self.top_p} and {self.top_k}; for greedy text drop --sample"
            )


@final
@dataclass(frozen=True)
class SpecialTokens:
    """Ids that open and close a text and fill a batch; padding is masked by place, not by id."""

    start: int
    end: int
    pad: int


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

    @abstractmethod
    def generate_ids(
        self, conditioning: Conditioning, count: int, config: GenerationConfig
    ) -> Tensor:
        """New token ids [N T] for N latents."""

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
        embedded = self.stack.get_input_embeddings()(ids)
        if conditioning.embedding is not None:
            embedded = embedded + conditioning.embedding.unsqueeze(1)
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
            **_context(conditioning),
        )
        return output.last_hidden_state[:, skip:]

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

    def _started_cache(self, conditioning: Conditioning) -> Cache:
        """The cache from which generation starts: the memory, then the prefix."""
        cache = self._cache(conditioning)
        if conditioning.prefix is not None:
            self.stack(
                inputs_embeds=conditioning.prefix,
                past_key_values=cache,
                use_cache=True,
                **_context(conditioning),
            )
        return cache

    def reconstruction(self, conditioning: Conditioning, ids: Tensor, targets: Tensor) -> Tensor:
        """−log p(x|z) in nats of every example, a sum over its predicted tokens.

        Only positions with a target (≥ 0) reach the output layer: padding costs no logits.

        Arguments:
            conditioning: what the bridge made of z.
            ids: decoder inputs, start token first, [N T].
            targets: the next tokens, end token last, −100 where there is none, [N T].

        Returns:
            [N].
        """
        wanted = targets >= 0
        hidden = self.hidden(conditioning, ids)[wanted]  # [M H], M tokens in the batch
        losses = self._token_losses(hidden, targets[wanted])
        rows = wanted.nonzero()[:, 0]
        return losses.new_zeros(len(ids)).index_add(0, rows, losses)

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

        at_once = LOGITS_AT_ONCE * (ON_A_GPU if hidden.is_cuda else 1)
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
        """Token ids of N texts, without start and end tokens.

        No text grows beyond the model's positions, whatever ``max_new_tokens`` allows. Sampling
        draws from torch's generator as it stands: whoever calls seeds it.
        """
        room = settings.max_new_tokens
        if self.positions is not None:
            room = min(room, self.positions - conditioning.slots)
        config = GenerationConfig(
            max_new_tokens=room,
            do_sample=settings.sample,
            num_beams=settings.beams,
            bos_token_id=self.special.start,
            eos_token_id=self.special.end,
            pad_token_id=self.special.pad,
            **(
                {
                    "temperature": settings.temperature,
                    "top_k": settings.top_k,
                    "top_p": settings.top_p,
                }
                if settings.sample
                else {}
            ),
        )
        with torch.no_grad():
            new = self.generate_ids(conditioning, count, config).tolist()
        end = self.special.end
        return [row[: row.index(end)] if end in row else row for row in new]


def _context(conditioning: Conditioning) -> dict[str, Tensor]:
    """What stacks read beside tokens and cache, by the names that they have for it."""
    given = {"encoder_hidden_states": conditioning.context, "latent_input": conditioning.input}
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def added_embedding(model: PreTrainedModel, vector: Tensor | None) -> Iterator[None]:
    """While open, every token embedding of ``model`` gets its row's vector [N E] added.

    transformers' generation embeds each new token by itself; this is the one place from which a
    vector can reach all of them. Rows repeated for beams take their example's vector.
    """
    if vector is None:
        yield
        return

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = vector.repeat_interleave(output.shape[0] // vector.shape[0], dim=0)
        return output + rows.unsqueeze(1)

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


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
        give_adaptive_output(model)
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

    def generate_ids(
        self, conditioning: Conditioning, count: int, config: GenerationConfig
    ) -> Tensor:
        """Transformers' own generation, from a cache that already holds what z gives."""
        cache = self._started_cache(conditioning.repeat(config.num_beams))
        slots = cache.get_seq_length()
        # generate() cuts the cache's length off the front of the ids: those places stand for it.
        device = self.stack.get_input_embeddings().weight.device
        ids = torch.full((count, slots + 1), self.special.start, device=device)
        with added_embedding(self.stack, conditioning.embedding):
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=cache,
                generation_config=config,
                **_context(conditioning),  # repeated for beams by generate()
            )
        return out[:, slots + 1 :]


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
