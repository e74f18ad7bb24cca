"""The start at a pretrained language model: before training it predicts as it did without z.

A pretrained decoder loses what it knows to a start that was made for a fresh one: posterior means
far apart, noise as loud as its token embeddings, slots of attention that say nothing. So three
things are set by what a first batch of training texts shows, whatever the encoder, the bridge and
the sizes are:

* the head of the encoder gives each dimension a mean of 0 over the texts and a KL of
  :data:`START_KL` nats;
* the constant of a bridge whose rows stand before or in place of tokens is what changes nothing:
  the start token, the mean state of the encoder that the decoder was trained with, or slots that
  are fitted to leave all predictions as they are;
* W is shrunk until its noise changes −log p(x|z) by :data:`COST` nats. It is not 0, so that
  gradients reach the encoder from the first step on.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from isthmus.data.kind import sampled
from isthmus.latent.pooling import mean_pool
from isthmus.models.base import evaluating, over_batches, to_device
from isthmus.models.bridges import (
    CrossAttentionBridge,
    LinearBridge,
    MemoryBridge,
    PrefixBridge,
    StartBridge,
)
from isthmus.models.codec import Batch, Examples, TextExamples
from isthmus.models.conditioning import Conditioning
from isthmus.models.decoder import Decoder
from isthmus.models.optimus import OptimusModel
from isthmus.models.slots import QuietSlots
from isthmus.models.text_model import TextModel
from isthmus.models.tuning import parameter_count
from isthmus.progress import Progress, no_progress

_log = logging.getLogger(__name__)

START_KL: Final = 0.1
"""KL of each dimension at the start, nats: z says something, and less than it costs to send."""
COST: Final = 0.25
"""By how much the noise of z may change −log p(x|z) at the start, nats a text."""
CHANGED: Final = 0.25
"""From here on slots change the decoder: KL(p(x) ‖ p(x|z = 0)) and the difference of these
texts' own log-probability, nats a text."""
LAYER_CHANGES: Final = (1e-2, 1e-3, 1e-4)
"""What slots may change in a layer, see :class:`QuietSlots`; the first that is enough is taken."""
STEPS: Final = 60
"""Of fitting slots, at most."""
LONG: Final = 5.0
"""Seconds of fitting that are worth a line."""
FIT_WORK: Final = 2**39
"""Parameters times tokens of all these steps."""
FEWEST: Final = 8
"""Of them, however large the decoder."""
FAR: Final = 1.0
"""From here on a change of the decoder is worth a line, nats a text."""
UNIT: Final = 0.1
"""What is much for a constant, in units of what the decoder itself has in its place."""
SHRINKINGS: Final = 40
IMPOSSIBLE: Final = -1e4
"""Log-probability of tokens that a model rules out: a finite one, whose share of a KL is 0."""
TEXTS: Final = 128
"""Texts that the head is scaled by."""
TOKENS: Final = (256, 2_048)
"""Tokens of the texts that the decoder reads: those that cost :data:`WORK`, within these."""
WORK: Final = 2**35
"""Parameters times tokens."""


def mean_state(
    stock: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int
) -> Tensor:
    """Mean over the states that an encoder–decoder model's encoder has of texts, [H].

    Args:
        stock: with its encoder.
        tokenizer: its own.
        texts: of training.
        longest: tokens of a text, at most.
    """
    states = []
    with evaluating(stock), torch.no_grad():
        for text in _some(texts, 16):
            read = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
            ids, mask = read["input_ids"], read["attention_mask"]
            hidden = stock.get_encoder()(input_ids=ids, attention_mask=mask)["last_hidden_state"]
            states.append(mean_pool(hidden, mask))
    return torch.cat(states).mean(0)


def alone(model: TextModel, examples: Examples, progress: Progress = no_progress) -> Tensor:
    """−log p(x) of a model's decoder as it is, without a latent, [N], nats.

    One that reads an encoder gets what its bridge gives it for z = 0.
    """

    def losses(batch: Batch) -> Tensor:
        ids, targets = batch["decoder_input_ids"], batch["targets"]
        return model.decoder.reconstruction(_nothing(model, len(ids)), ids, targets)

    with evaluating(model):
        return over_batches(model, examples, losses, progress)


@torch.no_grad()
def start_at_decoder(
    model: OptimusModel, texts: Sequence[str], *, scale_head: bool, context: Tensor | None = None
) -> None:
    """Set head and bridge of a new model so that its pretrained decoder predicts as without z.

    It is a function of model and texts: it leaves random generators as they are.

    Args:
        model: before its training.
        texts: of training, of which it looks at a few.
        scale_head: whether the head is scaled as well.
        context: where rows in place of an encoder's states start, see :func:`mean_state`; at 0
            without.
    """
    examples, home = model.codec.prepare(_some(texts, TEXTS)), model.device
    whole: nn.Module = model
    if home.type == "cpu" and torch.cuda.is_available():
        whole.to(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
    with evaluating(model), torch.random.fork_rng():
        torch.manual_seed(0)
        if scale_head:
            _scale_heads(model, examples)
        few = _few(examples, WORK // parameter_count(model.decoder)[0])
        start = _Start(model, to_device(examples.collate(few), model.device))
        start.begin(context)
        start.settle()
        start.quieten()
    if model.device != home:
        whole.to(home)


@torch.no_grad()
def scale_head(model: OptimusModel, texts: Sequence[str]) -> None:
    """Let the head of a new model begin by what its encoder says of a few texts.

    Each dimension has a mean of 0 over them and a KL of :data:`START_KL` nats; of points that
    are to be quantised, a variance of 1, as the entries of a codebook have.
    """
    with evaluating(model):
        _scale_heads(model, model.codec.prepare(_some(texts, TEXTS)))


def _some(texts: Sequence[str], count: int) -> list[str]:
    return [texts[place] for place in sampled(len(texts), count, 0)]


def _few(examples: TextExamples, tokens: int) -> list[int]:
    """As many texts as have that many tokens, at random."""
    least, most = TOKENS
    order = torch.randperm(len(examples)).tolist()
    lengths = torch.from_numpy(examples.lengths)[order].cumsum(0)
    return order[: 1 + int((lengths < max(least, min(tokens, most))).sum())]


def _nothing(model: TextModel, count: int) -> Conditioning:
    """What the decoder has to read for N texts without a latent."""
    z = torch.zeros(count, *model.latent_shape, device=model.device)
    y = None if model.labels is None else z.new_zeros(count, model.labels.size)
    return Conditioning(context=model.conditioning(z, y).context)


def _scale_heads(model: OptimusModel, examples: TextExamples) -> None:
    """Of the summary, and of all other latents."""
    encoder, summary = model.encoder, model.config.summary
    variance = 2 * START_KL if model.codebook is None else 1.0
    if model.config.vector_size:  # whitened already
        encoder.head.weight.mul_(math.sqrt(variance))
        encoder.head.bias.mul_(math.sqrt(variance))
        encoder.head.bias[encoder.mean_size :] = 0
        return
    states = over_batches(
        model, examples, lambda b: encoder.pooled(b["attention_mask"], b["input_ids"])
    ).to(encoder.head.weight)
    if summary:
        means = summary * encoder.mean_size
        _scale_head(encoder.summary_head, means, encoder.state(states), variance)
        states = states[:, 1:]
    rows = states.flatten(0, -2)
    rows = rows[rows.any(-1)]  # not those without tokens
    _scale_head(encoder.head, encoder.mean_size, rows, variance)


def _scale_head(head: nn.Linear, means: int, states: Tensor, variance: float) -> None:
    """Posterior means of mean 0 and that variance over pooled states [M H], of unit covariance."""
    if not len(states):
        return
    centre = states.mean(0)
    weight = head.weight[:means].clone()
    weight -= torch.outer(weight @ centre, centre) / centre.square().sum().clamp_min(1e-12)
    spread = (states @ weight.T).square().mean(0).sqrt()
    least = 1e-3 * states.square().mean().sqrt() * weight.square().sum(1).sqrt()
    weight *= (math.sqrt(variance) / spread.clamp_min(least)).unsqueeze(1)
    head.weight.zero_()
    head.weight[:means] = weight


@final
@dataclass
class _Start:
    """A new model and the batch by which its bridge is set."""

    model: OptimusModel
    batch: Batch

    @property
    def decoder(self) -> Decoder:
        return self.model.decoder

    def parts(self) -> Iterator[LinearBridge]:
        """All of the bridge that is a linear map."""
        yield from (part for part in self.model.modules() if isinstance(part, LinearBridge))

    def begin(self, context: Tensor | None) -> None:
        """Constants that change little or nothing."""
        start = torch.tensor([[self.decoder.special.start]], device=self.model.device)
        token = self.decoder.embedded(Conditioning(), start)[0, 0]
        for part in self.parts():
            if isinstance(part, StartBridge | PrefixBridge):
                part.begin_at(token)
            elif isinstance(part, CrossAttentionBridge) and context is not None:
                part.begin_at(context.to(token))

    def settle(self) -> None:
        """Set the constants of slots so that the predictions are those of the decoder alone.

        In closed form in the cache; where that is not enough, by gradient steps.
        """
        parts = [part for part in self.parts() if isinstance(part, PrefixBridge | MemoryBridge)]
        if not parts:
            return
        own = self._log_p(_nothing(self.model, len(self.batch["targets"])))
        for part in parts:
            if isinstance(part, MemoryBridge):
                self._hush(part, own)
        self._descend({part.linear.bias: self._unit(part) for part in parts}, own)

    def _descend(self, units: dict[nn.Parameter, Tensor], own: Tensor) -> None:
        """Follow the gradient of what constants change, downhill only.

        Args:
            units: constants, and how far each of their numbers goes in a step of 1.
            own: log-probabilities of the decoder alone.
        """
        starts = {constant: constant.clone() for constant in units}
        moves = {constant: torch.zeros_like(constant) for constant in units}
        began, passes = time.monotonic(), 0

        def place() -> None:
            for constant, unit in units.items():
                constant.data = starts[constant] + unit * moves[constant]

        def change() -> Tensor:
            nonlocal passes
            passes += 1
            place()
            kl, gap = self._change(own)
            loss = kl + gap.square()  # smooth, where a distance has a kink
            enough = kl + gap.abs() <= CHANGED  # a gradient of 0 ends the descent
            gradients = torch.autograd.grad(loss, [*units])
            for (constant, unit), gradient in zip(units.items(), gradients, strict=True):
                moves[constant].grad = gradient * unit * ~enough
            left = (most - 1) * (time.monotonic() - began)
            if passes == 1 and not enough and left > LONG:
                _log.warning("start: fitting slots to the decoder, about %.0f s", left)
            return loss

        tokens = int((self.batch["targets"] >= 0).sum())
        work = parameter_count(self.decoder)[0] * tokens
        most = max(FEWEST, min(STEPS, FIT_WORK // work))
        optimizer = torch.optim.LBFGS(
            [*moves.values()], max_iter=most, max_eval=most, line_search_fn="strong_wolfe"
        )
        optimizer.step(change)
        place()
        kl, gap = self._change(own)
        if (far := float(kl + gap.abs())) > FAR:
            _log.warning(
                "start: with the bridge %s the decoder predicts a text %.1f nats otherwise than "
                "alone, even where z says nothing; training has to undo that",
                self.model.config.bridge,
                far,
            )

    def _hush(self, part: MemoryBridge, own: Tensor) -> None:
        """Set the slots of the cache to those of :class:`QuietSlots`, as loud as may be."""
        given, least = self._at_zero(), math.inf
        before = 0 if given.prefix is None else given.prefix.shape[1]
        read = nn.functional.pad(self.batch["targets"] >= 0, (before, 0), value=True)
        for allowed in LAYER_CHANGES:
            with QuietSlots(part.layers, given.slots - before, allowed, read) as slots:
                kl, gap = self._change(own)
                change = (kl + gap.abs()).item()
            if slots.row is None:
                return
            if change < least:
                part.begin_at(slots.row)
                least = change
            if change <= CHANGED:
                return

    def _at_zero(self) -> Conditioning:
        """What the decoder reads for z = 0 (and y = 0)."""
        count, labels = len(self.batch["targets"]), self.model.labels
        zeros = torch.zeros(count, *self.model.latent_shape, device=self.model.device)
        return self.model.conditioning(
            zeros, None if labels is None else zeros.new_zeros(count, labels.size)
        )

    def _change(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """How far z = 0 is from the decoder alone: KL, and log p(x) − log p(x|z), nats a text."""
        targets = self.batch["targets"]
        change = own - self._log_p(self._at_zero())
        kl = (own.exp() * change).sum()
        gap = change.gather(1, targets[targets >= 0].unsqueeze(1)).sum()
        return kl / len(targets), gap / len(targets)

    def quieten(self) -> None:
        """Shrink each W until what it adds to z = 0 changes little, on average over z and −z.

        A small W changes it by its square, a large one by less: the root of what is too much is
        never too far.
        """
        parts = list(self.parts())
        weights = [part.linear.weight.clone() for part in parts]
        z = self.model.posterior(self.batch).rsample()
        z = torch.cat([z, -z])
        for part in parts:
            part.linear.weight.zero_()
        before = self._loss(z)
        for part, weight in zip(parts, weights, strict=True):
            for _ in range(SHRINKINGS):
                part.linear.weight.copy_(weight)
                now = self._loss(z)
                much = abs(now - before) / (COST / len(parts))
                if much <= 1:
                    break
                weight /= max(2, math.sqrt(much))
            before = now

    def _loss(self, z: Tensor) -> float:
        return self.model.reconstruction(z, self.batch).double().mean().item()

    def _log_p(self, given: Conditioning) -> Tensor:
        """Log-probabilities of all tokens at each predicted place, [M V]."""
        hidden = self.decoder.hidden(given, self.batch["decoder_input_ids"])
        logits = self.decoder.logits(hidden[self.batch["targets"] >= 0]).float()
        return logits.log_softmax(-1).clamp_min(IMPOSSIBLE)

    def _unit(self, part: PrefixBridge | MemoryBridge) -> Tensor:
        """What is much for each number of a part's constant."""
        constant = part.linear.bias
        tokens = self.decoder.embedded(Conditioning(), self.batch["decoder_input_ids"])
        if isinstance(part, PrefixBridge):
            return torch.full_like(constant, UNIT * _rms(tokens))
        cache: Any = self.decoder.started_cache(Conditioning(prefix=tokens))
        rows = constant[: len(constant) // part.length].split(
            [h * size for h, size in part.layers]
        )
        units = []
        for row, layer in zip(rows, cache.layers, strict=True):
            much = _rms(row) or UNIT * _rms(layer.keys)
            units.append(torch.full_like(row, much))
        return torch.cat(units).repeat(part.length)


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()
