"""Trials of a new model: a wrong decoder trains well, and its numbers or texts are wrong.

transformers' models ignore inputs that they do not know, among them a cache and the slots in it,
and many look at the whole text unless told otherwise. So a decoder is not trusted but tried, under
the bridge that conditions it, on a few tokens.
"""

from __future__ import annotations

import copy
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.base import evaluating
from isthmus.models.conditioning import Conditioning
from isthmus.models.decoder import OTHER_DECODER, Decoder, Stream, cannot_run
from isthmus.models.encoder import OTHER_ENCODER, TextEncoder, encoder_from_config
from isthmus.models.inspection import token_embeddings, without_storage
from isthmus.models.text_model import TextModel

Module = TypeVar("Module", bound=nn.Module)

TOKENS: Final = 8
"""Length of the trial text, unless the decoder looks back on less than the longest text."""

ONE_BY_ONE: Final = 2
"""Tokens at its end that are also read one at a time; of a longer text, those of its half."""

SEEN: Final = 1e-4
"""A smaller difference of log-probabilities, in nats, may be rounding."""

EQUAL: Final = 2e-3
"""Two ways to the same log-probability differ by less, also in a deep pretrained model."""

_WINDOWS = (
    *("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"),
    "receptive_field",
)
"""Names of how many tokens a decoder looks back on."""


def check_text_model(model: TextModel, longest: int, fresh: bool) -> None:
    """Try the decoder of a new model; see the checks below.

    Args:
        model: before its training.
        longest: tokens of its longest text.
        fresh: the decoder has fresh weights.

    Raises:
        IsthmusError: it cannot be run, or fails a check.
    """
    with in_one_line(cannot_run(model.decoder.model.config), OTHER_DECODER):
        check_output_layer(model.decoder)
        check_reading(model, longest, fresh)


@torch.no_grad()
def check_encoder(encoder: TextEncoder, pad: int, fresh: bool) -> None:
    """Try whether padding and other texts of a batch leave the state of a text as it is.

    And whether a run could be loaded: the encoder must be made again from its configuration.

    Args:
        encoder: before its training.
        pad: the id that fills a batch; MobileBERT reads it, and knows it.
        fresh: it has fresh weights.

    Raises:
        IsthmusError: they change it, or the encoder cannot be run.
    """
    name = f"encoder: transformers' {encoder.model.config.model_type}"
    with in_one_line(f"{name} cannot be run as one", OTHER_ENCODER):
        without_storage(encoder_from_config, encoder.model.config)
        trial = awake(encoder) if fresh else encoder
        vocabulary = len(token_embeddings(trial.model))
        ids = torch.arange(1, TOKENS + ONE_BY_ONE + 1).repeat(2, 1) * 7 % vocabulary
        mask = torch.ones_like(ids)
        mask[0, TOKENS:], ids[0, TOKENS:] = 0, pad
        with evaluating(trial):
            alone = trial.pooled(mask[:1, :TOKENS], ids[:1, :TOKENS])
            padded = trial.pooled(mask, ids)[:1]
    if not torch.allclose(alone, padded, atol=EQUAL):
        raise IsthmusError(
            f"{name} lets the padding of a batch change its states (by up to "
            f"{(alone - padded).abs().max():.2g}); {OTHER_ENCODER}"
        )


@torch.no_grad()
def check_output_layer(decoder: Decoder) -> None:
    """Compare :meth:`Decoder.logits` with the model's own forward pass on four tokens.

    Raises:
        IsthmusError: the model changes its logits in a way that is not known here.
    """
    weight = token_embeddings(decoder.stack)
    pad = getattr(decoder.model.config, "pad_token_id", None)  # M2M100 gives it no position
    ids = torch.tensor([[i for i in range(5) if i != pad][:4]], device=weight.device)
    size = decoder.context_size
    context = None if size is None else weight.new_ones(1, 1, size)
    with evaluating(decoder):
        stock = decoder.stock_logits(context, ids)
        ours = decoder.logits(decoder.hidden(Conditioning(context=context), ids))
    if not torch.allclose(stock, ours, atol=1e-5, rtol=1e-4):
        raise IsthmusError(
            f"{type(decoder.model).__name__} changes its logits in a way that Isthmus does not "
            f"know (largest difference {(stock - ours).abs().max():.3g}); {OTHER_DECODER}"
        )


@torch.no_grad()
def check_reading(model: TextModel, longest: int, fresh: bool) -> None:
    """Try whether a decoder reads a text from left to right, all of the bridge, and its cache.

    The last token must leave all earlier predictions as they are, token by token must give what
    the whole text gives, and each part of the conditioning must reach the predictions.

    Args:
        model: a new model.
        longest: tokens of its longest text.
        fresh: its decoder has fresh weights, see :func:`awake`.

    Raises:
        IsthmusError: one of these does not hold.
    """
    decoder = awake(model.decoder) if fresh else model.decoder
    fields, given = _one_field_each(_two_conditionings(model))
    ids = _trial_text(decoder, longest, given.slots).repeat(len(fields) + 2, 1)
    ids[-1, -1] += 1 if ids[-1, -1] == 0 else -1
    with evaluating(decoder):
        whole = decoder.logits(decoder.hidden(given, ids)).float().log_softmax(-1)
        cached = _one_at_a_time(decoder, given.changed(lambda _, value: value[:1]), ids[:1])
    name = f"decoder {decoder.model.config.model_type}"
    if not torch.isfinite(whole).all():
        raise IsthmusError(f"{name}: its log-probabilities are not finite; {OTHER_DECODER}")
    change = (whole - whole[0]).abs().amax(-1)  # [N T]
    if (ahead := change[-1, :-1].max()) > SEEN:
        raise IsthmusError(
            f"{name} looks ahead: its predictions change by up to {ahead:.2g} nats with a later "
            f"token, so it has no likelihood; {_causal(decoder)}"
        )
    _check_reach(name, fields, change[1:-1])
    if (gap := (cached - whole[0, -cached.shape[0] :]).abs().max()) > EQUAL:
        raise IsthmusError(
            f"{name}: token by token it predicts otherwise than on the whole text (by up to "
            f"{gap:.2g} nats), so its texts would not come from its likelihood; {OTHER_DECODER}"
        )


def _check_reach(name: str, fields: list[str], change: Tensor) -> None:
    """Refuse a bridge of which a part changes nothing, or all parts nothing at the end of a text.

    Args:
        name: of the decoder.
        fields: parts of the conditioning.
        change: of the predictions by another value of each part, [F T].
    """
    for field, changes in zip(fields, change, strict=True):
        if changes.max() <= SEEN:
            raise IsthmusError(
                f"{name} ignores the {field} that the bridge gives it; use another "
                "--model.bridge, such as embedding"
            )
    if fields and change[:, -1].max() <= SEEN:
        seen = int((change > SEEN).any(0).nonzero().max()) + 1
        raise IsthmusError(
            f"{name}: what the bridge gives is out of sight after {seen} tokens, and texts have "
            f"up to {change.shape[1]}; use --model.bridge embedding, a wider window, or "
            f"--data.maximum-length {seen}"
        )


@torch.no_grad()
def awake(module: Module) -> Module:
    """A copy with all fresh weights so large that every part of it has a say.

    As models start, attention is nearly uniform, and even a wrong position would not be seen.
    """
    other = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    for parameter in other.parameters():
        if parameter.ndim < 2:  # norms and biases: away from 1 and 0
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        elif (size := parameter.square().mean().sqrt()) > 0:
            parameter.mul_(parameter.shape[-1] ** -0.5 / size)
        else:
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return other


def _trial_text(decoder: Decoder, longest: int, slots: int) -> Tensor:
    """Ids [1 T] of a text, the longest one if the decoder cannot look back on all of it."""
    config, positions = decoder.model.config, decoder.positions
    room = longest if positions is None else min(longest, positions - slots)
    windows = [getattr(config, name, None) for name in _WINDOWS]
    narrow = any(window < room for window in windows if isinstance(window, int))
    length = room if narrow else min(room, TOKENS)
    weight = token_embeddings(decoder.stack)
    ids = torch.arange(1, length + 1, device=weight.device).unsqueeze(0) * 7 % len(weight)
    ids[:, 0] = decoder.special.start
    return ids


def _one_at_a_time(decoder: Decoder, given: Conditioning, ids: Tensor) -> Tensor:
    """Log-probabilities after the first tokens of a text [1 T], and after each further one."""
    length = ids.shape[1]
    single = min(ONE_BY_ONE if length <= TOKENS else length // 2, length - 1)
    stream = Stream(decoder, given)
    parts = ids.split([length - single, *[1] * single], dim=1)
    return torch.cat([stream.read(part) for part in parts]).float().log_softmax(-1)


def _causal(decoder: Decoder) -> str:
    """The remedy for one that looks ahead."""
    if getattr(decoder.model.config, "is_decoder", True):
        return OTHER_DECODER
    return f"use --model.decoder.options.is-decoder, or {OTHER_DECODER}"


def _two_conditionings(model: TextModel) -> Conditioning:
    """What the bridge gives for two very different latents, or labels where there is no latent."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, *model.latent_shape, generator=generator)
    z = z * 50 / max(1, z.numel()) ** 0.5  # 50, because W starts at 0.02
    z = torch.cat([z, -z])  # also for a bridge that reads bits, every one of them differs
    y = None
    if model.labels is not None:
        one, other = (model.labels.one_hot(place, 1) for place in (0, len(model.labels.names) - 1))
        y = torch.cat([one, one + 50 * (other - one)])
    return model.conditioning(z, y)


def _one_field_each(two: Conditioning) -> tuple[list[str], Conditioning]:
    """The F fields of a conditioning of two rows, and F + 2 rows made of it.

    The first row with each field of the second in turn, between two that are the first as it is.
    """
    fields = [name for name, value in vars(two).items() if value is not None]
    return fields, two.changed(
        lambda name, value: value[[0, *(int(field == name) for field in fields), 0]]
    )
