"""p(x|z) by a stock transformers language model, conditioned only through its public inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Self, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    Cache,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from isthmus.errors import IsthmusError, in_one_line
from isthmus.latent.distribution import precise
from isthmus.models.chunked import chunked
from isthmus.models.conditioning import Conditioning, DecoderShape, rows_at
from isthmus.models.generation import Generation, Source, SpecialTokens, write
from isthmus.models.growing import grow_in_place
from isthmus.models.inspection import (
    cache_sizes,
    layers_of,
    modules_called,
    read_as_well,
    token_embeddings,
    without_storage,
)
from isthmus.models.memory import fit_on
from isthmus.models.output import AdaptiveOutput, Output, candidates

LOGITS_AT_ONCE = 2**21
"""Logits held at a time, 8 MiB in float32 (benchmarks/chunks.py compares sizes)."""

OTHER_DECODER = "use another decoder, such as gpt2, llama or qwen2"
"""The remedy for one that cannot be used."""

FEWEST_ROWS = 256
"""Least number of tokens in a chunk: with fewer, reading a large vocabulary's weights again for
each chunk costs more than the logits."""


def cannot_run(config: PreTrainedConfig) -> str:
    """How an error begins that a decoder causes."""
    return f"decoder: transformers' {config.model_type} cannot be run as one"


class Decoder(nn.Module, ABC):
    """A stock language model as p(x|z).

    Args:
        model: the language model. Its own generation defaults are removed, because with a
            repetition penalty or a forced token its texts are no draws from p(x|z).
        special: ids around its texts.
    """

    text_first: bool = False
    """Whether a text begins at position 0 whatever slots precede it."""

    def __init__(self, model: PreTrainedModel, special: SpecialTokens) -> None:
        super().__init__()
        self.model = model
        self.special = special
        self._sampled = 0
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
        """Width that cross-attention expects; None without cross-attention."""

    @abstractmethod
    def stock_logits(self, context: Tensor | None, ids: Tensor) -> Tensor:
        """The model's own logits [N T V] of decoder inputs [N T] and a context, if it has one."""

    @property
    def positions(self) -> int | None:
        """Positions of the model, slots of the bridge included; None without a limit."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return positions if positions and positions > 0 else None

    def _positions(self, slots: int, first: int, tokens: int) -> dict[str, Tensor]:
        """Positions of slots, all 0, and of tokens from the first on, where slots do not count."""
        if not self.text_first:
            return {}
        places = torch.arange(first, first + tokens, device=self.device)
        return {"position_ids": functional.pad(places, (slots, 0)).unsqueeze(0)}

    @property
    def caches(self) -> bool:
        """Whether it continues from a cache; a model swallows one that it does not know."""
        return "past_key_values" in signature(self.stack.forward).parameters

    def shape(self) -> DecoderShape:
        """What a bridge has to know."""
        with in_one_line(cannot_run(self.model.config), OTHER_DECODER):
            cache = None
            if self.caches:
                cache = cache_sizes(self._empty_stack(), self.context_size)
            width = token_embeddings(self.stack).shape[1]
        return DecoderShape(
            width,
            cache,
            self.context_size,
            output_size=self.output_size,
            layers=len(layers_of(self.stack)),
        )

    @property
    def output_size(self) -> int:
        """H, width of the states that the output layer reads; 0 where it does not say."""
        return int(getattr(self.model.get_output_embeddings(), "in_features", 0))

    def fix_unread(self, conditioning: Conditioning) -> None:
        """Freeze what no output depends on: without a context, cross-attention is skipped.

        Args:
            conditioning: from the bridge, for any z.
        """
        if self.context_size is None or conditioning.context is not None:
            return
        empty = self._empty_stack()
        unread = modules_called(empty, self.context_size) - modules_called(empty, None)
        for name in unread:
            self.stack.get_submodule(name).requires_grad_(False)

    def _empty_stack(self) -> PreTrainedModel:
        """A stack of the same configuration whose weights take no memory."""
        empty = without_storage(
            lambda config: self.from_config(config, self.special).stack, self.model.config
        )
        return empty.eval()  # in training M2M100 draws layers to skip, and looks at the draw

    def hidden(
        self, conditioning: Conditioning, ids: Tensor, places: Tensor | None = None
    ) -> Tensor:
        """Last hidden states [N T H] of decoder inputs [N T], in one teacher-forced pass.

        Right padding needs no mask: no token looks to its right. ``places`` as for
        :meth:`embedded`.
        """
        conditioning = self.held(conditioning)
        embedded = self.embedded(conditioning, ids, places)
        skip = 0
        if conditioning.prefix is not None:
            skip = conditioning.prefix.shape[1]
            embedded = torch.cat([conditioning.prefix.to(embedded), embedded], dim=1)
        cached = conditioning.memory is not None or conditioning.state is not None
        given = conditioning.stack_inputs | self._positions(skip, 0, ids.shape[1])
        if self.text_first and skip:  # else transformers takes equal positions for several texts
            seen = len(embedded), conditioning.slots + ids.shape[1]
            given["attention_mask"] = torch.ones(seen, device=self.device)
        with self._half_way(conditioning, ids, places, skip):
            output = self.stack(
                inputs_embeds=embedded,
                past_key_values=self._cache(conditioning) if cached else None,
                use_cache=False,
                **given,
            )
        return conditioning.shifted(output.last_hidden_state[:, skip:])

    @contextmanager
    def _half_way(
        self, conditioning: Conditioning, ids: Tensor, places: Tensor | None, skip: int = 0
    ) -> Iterator[None]:
        """Inside the block the upper half of the layers reads ``middle`` as well."""
        if conditioning.middle is None:
            yield
            return
        if places is None:
            places = torch.arange(ids.shape[1], device=ids.device)
        given = functional.pad(rows_at(conditioning.middle, places), (0, 0, skip, 0))
        layers = layers_of(self.stack)
        with read_as_well(layers[len(layers) // 2], given):
            yield

    def held(self, conditioning: Conditioning) -> Conditioning:
        """The conditioning in the type of the weights, where that is narrower than float32."""
        dtype = token_embeddings(self.stack).dtype
        if dtype.itemsize >= torch.float32.itemsize:
            return conditioning
        return conditioning.changed(lambda _, value: value.to(dtype))

    def embedded(
        self, conditioning: Conditioning, ids: Tensor, places: Tensor | None = None
    ) -> Tensor:
        """Token embeddings [N T E] of ids [N T] under a conditioning; see its ``embed``.

        ``places`` [T] are 0, 1, … if absent.
        """
        if places is None:
            places = torch.arange(ids.shape[1], device=ids.device)
        return conditioning.embed(self.stack.get_input_embeddings()(ids), places)

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

    def started_cache(self, conditioning: Conditioning) -> Cache:
        """The cache from which generation starts: the memory, then the prefix."""
        cache = self._cache(conditioning)
        if not torch.is_grad_enabled():
            grow_in_place(cache)
        if conditioning.prefix is not None:
            self.stack(
                inputs_embeds=conditioning.prefix.clone(),  # CTRL scales it in place
                past_key_values=cache,
                use_cache=True,
                **conditioning.stack_inputs,
                **self._positions(conditioning.prefix.shape[1], 0, 0),
            )
        return cache

    def continued(
        self, conditioning: Conditioning, ids: Tensor, cache: Cache, places: Tensor
    ) -> Tensor:
        """Logits [N V] after these further tokens [N T]; the cache is updated in place."""
        with self._half_way(conditioning, ids, places):
            output = self.stack(
                inputs_embeds=self.embedded(conditioning, ids, places),
                past_key_values=cache,
                use_cache=True,
                **conditioning.stack_inputs,
                **self._positions(0, cache.get_seq_length() - conditioning.slots, ids.shape[1]),
            )
        return self.logits(conditioning.shifted(output.last_hidden_state[:, -1:])[:, 0])

    def token_losses(self, conditioning: Conditioning, ids: Tensor, targets: Tensor) -> Tensor:
        """−log p of every predicted token in nats, 0 where there is no target, [N T].

        Only positions with a target (≥ 0) reach the output layer: padding costs no logits.

        Args:
            conditioning: from the bridge.
            ids: decoder inputs, start token first, [N T].
            targets: the next tokens, end token last, −100 where there is none, [N T].
        """
        wanted = targets >= 0
        hidden = self.hidden(conditioning, ids)[wanted]  # [M H], M tokens in the batch
        losses = self.losses(hidden, targets[wanted])
        return losses.new_zeros(targets.shape).masked_scatter(wanted, losses)

    def reconstruction(self, conditioning: Conditioning, ids: Tensor, targets: Tensor) -> Tensor:
        """−log p(x|z) in nats of every example, a sum over its predicted tokens, [N]."""
        return self.token_losses(conditioning, ids, targets).sum(-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """The stock model's logits [... V] of hidden states [... H], its scalings included.

        In float32 or better.
        """
        return precise(self._rounded_logits(hidden))

    def _rounded_logits(self, hidden: Tensor) -> Tensor:
        """The same in the type of the product."""
        return self._scaled(self.model.get_output_embeddings()(hidden))

    def _scaled(self, logits: Tensor) -> Tensor:
        """Logits as the stock model changes them.

        These attributes are all that transformers' language models do after their output layer;
        `isthmus.models.checks.check_output_layer` compares a model with its own forward pass.
        """
        config = self.stack.config
        if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits = logits * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits = logits / scaling
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma
            logits = torch.tanh(logits / cap) * cap
        return logits

    def sample_vocabulary(self, count: int) -> None:
        """In training, estimate the softmax from the batch's tokens and a sample of the others.

        Args:
            count: size of the sample; :class:`isthmus.models.output.Candidates` has the formula.

        Raises:
            IsthmusError: another output layer than a softmax over all tokens.
        """
        if not isinstance(self.model.get_output_embeddings(), nn.Linear):
            raise IsthmusError(
                "train.sampled_vocabulary: got a decoder whose output layer is no plain softmax; "
                "use --model.decoder.output softmax or --train.sampled-vocabulary 0"
            )
        self._sampled = count

    def target_losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """−log p of any number of tokens from each of N states.

        Args:
            states: hidden states, [N H].
            targets: ids, −100 where there is none, [N T].

        Returns:
            [N T] in nats, 0 where there is no target.
        """
        logits, places, _ = self._scorer(targets)
        log_p = precise(logits(states)).log_softmax(-1)
        return -log_p.gather(1, places.clamp_min(0)) * (targets >= 0)

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """−log p of every target: hidden states [M H], targets [M] → [M], nats."""
        output = self.model.get_output_embeddings()
        if isinstance(output, AdaptiveOutput):
            return output(hidden, targets)
        logits, targets, sampled = self._scorer(targets)

        at_once = fit_on(hidden.device, LOGITS_AT_ONCE)
        rows = max(FEWEST_ROWS, at_once // self.model.config.get_text_config().vocab_size)
        if sampled or len(targets) <= rows:  # those of a sample are few
            return functional.cross_entropy(precise(logits(hidden)), targets, reduction="none")
        return chunked(logits, hidden, targets, rows, list(output.parameters()))

    def _scorer(self, targets: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor, bool]:
        """A function from hidden states to logits, and where in these the targets are.

        In training they may be of part of the vocabulary, see :meth:`sample_vocabulary`; whether
        they are comes last.
        """
        some = None
        if self.training and self._sampled:
            size = self.model.config.get_text_config().vocab_size
            some = candidates(targets, size, self._sampled)
        if some is None:
            return self._rounded_logits, targets, False
        output = cast(nn.Linear, self.model.get_output_embeddings())
        weight, log_weights = output.weight[some.tokens], some.log_weights
        bias = None if output.bias is None else output.bias[some.tokens]

        def logits(hidden: Tensor) -> Tensor:
            return self._scaled(functional.linear(hidden, weight, bias)) + log_weights

        return logits, some.places, True

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
        return token_embeddings(self.stack).device


@final
class Stream(Source):
    """A decoder that writes under one conditioning.

    Once all positions of the model are taken, it continues from the conditioning, the start token
    and the last tokens: a sliding window of which it keeps three quarters at a time, and which
    never loses the code. Keskar et al. (2019) slide by one token; each slide costs a whole pass.

    A decoder without a key/value cache (openai-gpt, mamba, rwkv) reads the whole text for each
    token.

    Args:
        decoder: p(x|z).
        conditioning: from the bridge, a row for each text.
    """

    def __init__(self, decoder: Decoder, conditioning: Conditioning) -> None:
        self.decoder, self.conditioning = decoder, decoder.held(conditioning)
        self.caches = decoder.caches
        room = decoder.positions
        self.room = None if room is None else room - conditioning.slots
        self.ids: Tensor | None = None
        self.places: Tensor
        self.cache: Cache

    def read(self, ids: Tensor) -> Tensor:
        """Logits [N V] after these further tokens [N T]; the first one of all starts the text."""
        begins = self.ids is None
        first = 0 if self.ids is None else int(self.places[-1]) + 1
        places = first + torch.arange(ids.shape[1], device=ids.device)
        self.places = places if self.ids is None else torch.cat([self.places, places])
        self.ids = ids if self.ids is None else torch.cat([self.ids, ids], dim=1)
        if self.room is not None and self.ids.shape[1] > self.room:
            begins = True
            kept = 3 * self.room // 4
            self.ids = ids = torch.cat([self.ids[:, :1], self.ids[:, 1:][:, -kept:]], dim=1)
            self.places = places = torch.cat([self.places[:1], self.places[1:][-kept:]])
        if not self.caches:
            hidden = self.decoder.hidden(self.conditioning, self.ids, self.places)
            return self.decoder.logits(hidden[:, -1])
        if begins:
            self.cache = self.decoder.started_cache(self.conditioning)
        return self.decoder.continued(self.conditioning, ids, self.cache, places)

    def keep(self, rows: Tensor) -> None:
        """Reorder beams, which share the conditioning of their text, or leave texts out."""
        assert self.ids is not None
        if len(rows) < len(self.ids):
            self.conditioning = self.conditioning.changed(lambda _, value: value[rows])
        self.ids = self.ids[rows]
        if self.caches:
            self.cache.reorder_cache(cast(torch.LongTensor, rows))
