"""Text from logits, a token at a time: one loop for every model, steered or not.

A :class:`Source` reads tokens and returns the logits of the next one. A decoder under one
conditioning is a source (:class:`isthmus.models.decoder.Stream`); so is a mixture of sources, and
a source shifted by the difference of two others. Rules on logits are those of
:mod:`isthmus.control`. Penalties act on raw logits, before any softmax, so they mean the same in
greedy decoding, sampling, beam search and guidance; in transformers they do not (docs/control.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from isthmus.control.guidance import mix, steer, within
from isthmus.control.sampling import Penalty, ban, drawn, penalise, seen, shaped
from isthmus.errors import IsthmusError


@final
@dataclass(frozen=True)
class Generation:
    """How text is drawn from p(x|z).

    Args:
        max_new_tokens: limit; generation ends earlier at the end token.
        sample: draw from the distribution instead of taking its most probable token.
        temperature: divides the logits of that distribution.
        top_k: sample from the k most probable tokens only; 0 for all.
        top_p: sample from the smallest set of tokens with this probability only; 1.0 for all.
        beams: width of beam search, 1 for none.
        seed: of sampling.
        label: the label (control code) to write texts under; by default
            :meth:`isthmus.models.label_input.LabelInput.chosen` chooses it.
        mixture: several labels with weights instead of one.
        detail: free text after the code, "Rating: 5.0"; read, not written.
        prompt: how the texts begin.
        guidance: γ of l_away + γ (l_label − l_away); 1 for none.
        against: the label in l_away; the null code if absent.
        guidance_top_p: guidance writes only tokens in this nucleus of p(x|label).
        penalty: of tokens that are in the text already.
        exempt: ids that are never penalised.
        banned: ids that are never written.
        part: the part of an example to draw, "picture" or "caption"; all parts if empty.
    """

    max_new_tokens: int = 64
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    seed: int = 0
    label: str | None = None
    mixture: tuple[tuple[str, float], ...] = ()
    detail: str = ""
    prompt: str = ""
    guidance: float = 1.0
    against: str | None = None
    guidance_top_p: float = 1.0
    penalty: Penalty = field(default_factory=Penalty)
    exempt: tuple[int, ...] = ()
    banned: tuple[int, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "top_k", "beams", "seed"):
            if not isinstance(value := getattr(self, name), int):
                raise IsthmusError(f"{name}: got {value!r}, expected a whole number")
        for name in ("temperature", "top_p", "guidance", "guidance_top_p"):
            if not isinstance(value := getattr(self, name), int | float):
                raise IsthmusError(f"{name}: got {value!r}, expected a number")
        if self.max_new_tokens < 1 or self.beams < 1:
            raise IsthmusError(
                f"max_new_tokens and beams must be ≥ 1, got {self.max_new_tokens} and {self.beams}"
            )
        if not 0 < self.temperature < float("inf") or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise IsthmusError(
                "expected temperature > 0, 0 < top_p ≤ 1 and top_k ≥ 0, got "
                f"{self.temperature}, {self.top_p} and {self.top_k}; for greedy text drop --sample"
            )
        if self.sample and self.beams > 1:
            raise IsthmusError(
                f"beams: got {self.beams} with sampling; beam search takes the most probable "
                "texts, leave out --sample (generate: --no-sample) or --beams"
            )
        if not 0 < self.guidance_top_p <= 1:
            raise IsthmusError(
                f"guidance_top_p: got {self.guidance_top_p}, expected above 0 and at most 1, "
                "which lets guidance lift any token"
            )
        if self.guidance_top_p < 1 and self.guidance == 1:
            raise IsthmusError(
                f"guidance_top_p: got {self.guidance_top_p} without guidance, which alone "
                "uses it; add --guidance 2, or use --top-p"
            )
        if self.against is not None and self.guidance == 1:
            raise IsthmusError(
                f"against: got {self.against!r} without guidance, which alone uses it; "
                "add --guidance 2, for example"
            )


@final
@dataclass(frozen=True)
class SpecialTokens:
    """Ids that open and close a text and fill a batch; padding is masked by position, not by id.

    A model without an end token (CTRL) writes up to its limit.
    """

    start: int
    end: int | None
    pad: int


class Source(ABC):
    """Something that reads tokens and returns the logits of the next one."""

    @abstractmethod
    def read(self, ids: Tensor) -> Tensor:
        """Logits [N V] after these further tokens [N T]."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Continue with these rows of what was read: the surviving beams, or the unended texts."""


@final
class Steered(Source):
    """l + α (l⁺ − l⁻) of three sources, two of which may be the same.

    A `top_p` below 1 keeps only the tokens in that nucleus of l⁺.
    """

    def __init__(
        self, base: Source, towards: Source, away: Source, strength: float, top_p: float = 1.0
    ) -> None:
        self.parts = (base, towards, away)
        self.strength, self.top_p = strength, top_p

    def read(self, ids: Tensor) -> Tensor:
        """The combined logits; each source reads once."""
        logits = {source: source.read(ids) for source in dict.fromkeys(self.parts)}
        base, towards, away = (logits[source] for source in self.parts)
        return within(steer(base, towards, away, self.strength), towards, self.top_p)

    def keep(self, rows: Tensor) -> None:
        """Keep them in each source."""
        for source in dict.fromkeys(self.parts):
            source.keep(rows)


@final
class Mixed(Source):
    """Several sources with weights that sum to 1."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        self.sources, self.weights = tuple(sources), tuple(weights)

    def read(self, ids: Tensor) -> Tensor:
        """The mixed logits."""
        logits = torch.stack([source.read(ids) for source in self.sources])
        return mix(logits, logits.new_tensor(self.weights))

    def keep(self, rows: Tensor) -> None:
        """Keep them in each source."""
        for source in self.sources:
            source.keep(rows)


@torch.no_grad()
def write(
    source: Source,
    count: int,
    begin: Tensor,
    prompt: Tensor,
    settings: Generation,
    special: SpecialTokens,
) -> list[list[int]]:
    """Token ids of N texts, their prompt in front, without start and end tokens.

    Sampling draws from torch's global generator, which the caller seeds.

    Args:
        source: for N rows, or N × beams with the beams of a text next to each other.
        count: N.
        begin: ids read before a text, [B]: the start token, and the detail of a code.
        prompt: ids that every text begins with, [T].
        settings: how to choose tokens.
        special: the ids around a text.
    """
    text = _Text(torch.cat([begin, prompt]), len(begin), settings, special)
    rows = _beam_search if settings.beams > 1 else _one_by_one
    return [text.cut(row) for row in rows(source, count, text)]


@final
class _Text:
    """What both decoding methods share.

    Args:
        given: ids that all texts begin with, [B + T].
        skipped: B, how many of them do not belong to the text.
        settings, special: as for :func:`write`.
    """

    def __init__(
        self, given: Tensor, skipped: int, settings: Generation, special: SpecialTokens
    ) -> None:
        self.given, self.skipped = given, skipped
        self.settings, self.special = settings, special
        self.end = -1 if special.end is None else special.end  # no token has that id

    def logits(self, source: Source, ids: Tensor, new: Tensor) -> Tensor:
        """Shaped logits of the next token [N V] after ids [N T], the last of which are new."""
        settings, logits = self.settings, source.read(new).float()
        if settings.penalty.strength != 1:
            counted = ids if settings.penalty.prompt else ids[:, len(self.given) :]
            # Without an end token (CTRL) the start is a code, which is also a word.
            start = () if self.special.end is None else (self.special.start,)
            exempt = (*start, *settings.exempt)
            logits = penalise(
                logits, seen(counted, None, logits.shape[1], exempt), settings.penalty
            )
        if settings.banned:
            logits = ban(logits, settings.banned)
        if settings.sample:
            logits = shaped(
                logits,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
            )
        return logits

    def cut(self, row: list[int]) -> list[int]:
        """The text in a row of ids: from its prompt to before its end."""
        new = row[len(self.given) :]
        if self.end in new:
            new = new[: new.index(self.end)]
        return row[self.skipped : len(self.given)] + new


def _one_by_one(source: Source, count: int, text: _Text) -> list[list[int]]:
    """Rows of ids, each token being the most probable one or drawn.

    Texts that have ended leave the batch, a quarter of it at a time: each time copies the cache.
    """
    new = ids = text.given.expand(count, -1)
    places = torch.arange(count, device=ids.device)  # of the rows among the texts
    done = torch.zeros(count, dtype=torch.bool, device=ids.device)
    written: dict[int, list[int]] = {}
    for _ in range(text.settings.max_new_tokens):
        logits = text.logits(source, ids, new)
        if text.settings.sample:
            new = drawn(logits.softmax(-1))
        else:
            new = logits.argmax(-1, keepdim=True)
        ids = torch.cat([ids, new], dim=1)
        done |= new[:, 0] == text.end
        ended = int(done.sum())
        if ended == len(done):
            break
        if 4 * ended >= len(done):
            written |= zip(places[done].tolist(), ids[done].tolist(), strict=True)
            left = (~done).nonzero().flatten()
            places, ids, new, done = places[left], ids[left], new[left], done[left]
            source.keep(left)
    written |= zip(places.tolist(), ids.tolist(), strict=True)
    return [written[place] for place in range(count)]


def _beam_search(source: Source, count: int, text: _Text) -> list[list[int]]:
    """The row of ids of each text with the best mean log-probability per token that was found.

    There are B beams per text. Of 2 B candidates, those that end are set aside if they are among
    the first B, and the first B others continue, until none of them is better than the B texts set
    aside (a mean can rise later, so this is a search, not a proof).
    """
    beams = text.settings.beams
    new = ids = text.given.expand(count * beams, -1)
    scores = ids.new_full((count, beams), -torch.inf, dtype=torch.float)
    scores[:, 0] = 0
    first = torch.arange(count, device=ids.device).unsqueeze(1) * beams
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in range(count)]
    active = set(range(count))
    for length in range(1, text.settings.max_new_tokens + 1):
        log_p = text.logits(source, ids, new).log_softmax(-1)
        size = log_p.shape[1]
        total = (scores.unsqueeze(-1) + log_p.view(count, beams, size)).flatten(1)
        best = total.topk(min(2 * beams, total.shape[1]))
        rows, tokens = first + best.indices // size, best.indices % size
        ends = tokens == text.end
        for place, rank in ends[:, :beams].nonzero().tolist():
            if place in active:
                row = [*ids[rows[place, rank]].tolist(), text.end]
                ended[place].append((best.values[place, rank].item() / length, row))
        kept = best.values.masked_fill(ends, -torch.inf).topk(beams)
        scores, from_rows = kept.values, rows.gather(1, kept.indices).flatten()
        new = tokens.gather(1, kept.indices).view(-1, 1)
        ids = torch.cat([ids[from_rows], new], dim=1)
        source.keep(from_rows)
        for place in list(active):
            ended[place] = sorted(ended[place], reverse=True)[:beams]
            hope = scores[place, 0].item() / length
            if len(ended[place]) == beams and ended[place][-1][0] >= hope:
                active.remove(place)
        if not active:
            break
    for place in active:
        ended[place].append((scores[place, 0].item() / length, ids[first[place, 0]].tolist()))
    return [max(texts)[1] for texts in ended]
