"""Vectors → texts, and their correction by the encoder that made the vectors.

The decoder writes a text for the latent of each vector v. Where the encoder is at hand, that text
is a first draft: the encoder reads drafts again, and what lies nearest to v stays. A round of
correction has three sources of drafts:

* *walks*: texts of z + η (μ(v) − μ(e)) for the vector e of the best draft: what the draft lacks,
  the next text is asked for more (Morris et al. 2023, arXiv 2310.06816, train a network for this);
* *samples* of the decoder;
* *edits* of the best drafts: words replaced, put in, left out or exchanged with their neighbour.
  Of many the decoder reads, those that are most probable under a walk's latent go to the encoder,
  which costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from isthmus.data import tokens
from isthmus.data.batches import IGNORED
from isthmus.data.vectors import as_vectors
from isthmus.errors import IsthmusError
from isthmus.models.base import evaluating
from isthmus.models.codec import TextCodec
from isthmus.models.generation import Generation
from isthmus.models.text_model import TextModel
from isthmus.progress import Progress, no_progress

Embed = Callable[[list[str]], Any]
"""A sentence encoder: N texts → vectors [N E], as an array, a tensor or lists."""

ROUNDS: Final = 10
"""Rounds of correction, unless the user says otherwise."""
DRAFTS: Final = 32
"""Drafts that the encoder reads in a round."""
KEPT: Final = 3
"""Best drafts of a vector that are edited further."""
STEPS: Final = (0.5, 1.0, 2.0)
"""η of the walks of a round."""
SAMPLES: Final = 3
"""Samples of the decoder in a round, from the latent of a walk."""
SPREAD: Final = 0.3
"""Standard deviation of the noise of a sample's latent, whose dimensions have a variance of 1."""
AT_ONCE: Final = 32
"""Vectors that are inverted together."""
PER_PLACE: Final = 8
"""Tokens that may replace one, or be put before it."""
PROPOSED: Final = 128
"""Edits of a vector's drafts that the decoder reads in a round."""
NOISE: Final = 1.0
"""Scale of the Gumbel noise on the scores of edits, so that rounds differ."""
LONGEST_WORD: Final = 4
"""Tokens that the decoder adds to the first one of a new word, at most."""
FEW_WORDS: Final = 0.02
"""Share of the tokens of a vocabulary that begin words, where white space parts words."""
TEXTS_AT_ONCE: Final = 512
"""Edits in a pass of the decoder."""
LONGER: Final = 2
"""Tokens that a text may have beyond the longest of training."""


@final
@dataclass(frozen=True)
class Inverted:
    """What N vectors say.

    Args:
        texts: The texts, corrected if an encoder was given.
        first: What the decoder wrote at first; the same without an encoder.
        cosines: Of the vectors to those of ``texts``, [N]; None without an encoder.
        first_cosines: The same of ``first``.
        found: Vectors of ``texts``, [N E]; None without an encoder.
    """

    texts: list[str]
    first: list[str]
    cosines: Tensor | None = None
    first_cosines: Tensor | None = None
    found: Tensor | None = None


@torch.no_grad()
def invert(
    model: TextModel,
    vectors: Any,
    embed: Embed | None = None,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Inverted:
    """Write the text of each vector.

    Args:
        model: whose posterior's head sits on such vectors.
        vectors: [N E], any array, tensor or lists of numbers.
        embed: the encoder that made them; without it nothing is corrected.
        rounds: of correction; 0 for none.
        seed: of samples and of the choice of edits.
        progress: called with the number of vectors just done.

    Raises:
        IsthmusError: a model of another kind, vectors of another width, or an encoder that gives
            others.
    """
    rows = as_tensor(vectors)
    found: list[_Search] = []
    with evaluating(model), torch.random.fork_rng():
        torch.manual_seed(seed)
        begins = word_starts(model.codec)
        for part in rows.split(AT_ONCE):
            search = _Search(model, part, embed, begins)
            for _ in range(rounds if embed is not None else 0):
                search.correct()
            found.append(search)
            progress(len(part))
    return _joined(found, embed is not None)


def _joined(found: Sequence[_Search], judged: bool) -> Inverted:
    first = [text for search in found for text in search.first]
    if not judged:
        return Inverted(first, first)
    best = [drafts[0] for search in found for drafts in search.drafts]
    return Inverted(
        [draft.text for draft in best],
        first,
        torch.tensor([draft.cosine for draft in best]),
        torch.cat([search.first_cosines for search in found]),
        torch.stack([draft.vector for draft in best]),
    )


@final
@dataclass(frozen=True)
class _Draft:
    """A text that the encoder has read."""

    text: str
    cosine: float
    vector: Tensor = field(repr=False)


class Edit(NamedTuple):
    """A changed text: ids before and behind the change."""

    head: list[int]
    tail: list[int]
    open: bool
    """Whether the head ends in the first token of a word, of which more may follow."""


@final
class _Search:
    """The search for the texts of N vectors [N E]."""

    def __init__(
        self, model: TextModel, vectors: Tensor, embed: Embed | None, begins: Sequence[bool]
    ) -> None:
        self.model, self.vectors, self.embed = model, vectors.to(model.device), embed
        self.begins = begins
        self.z = self._latents(self.vectors)
        unknown, special = model.codec.decoder_tokenizer.unk_token_id, model.decoder.special
        own = unknown is None or unknown in (special.start, special.end)
        self.banned: tuple[int, ...] = () if own else (unknown,)
        self.longest = model.codec.maximum_length + LONGER
        self.drafts: list[list[_Draft]] = [[] for _ in vectors]
        self.seen: list[set[str]] = [set() for _ in vectors]
        self.first = self._written(self.z, sample=False)
        if embed is not None:
            self._judge([[text] for text in self.first])
            nothing = _Draft("", 0.0, torch.zeros(vectors.shape[1]))  # not for an encoder to read
            self.drafts = [drafts or [nothing] for drafts in self.drafts]
            self.first_cosines = torch.tensor([drafts[0].cosine for drafts in self.drafts])

    def correct(self) -> None:
        """One round."""
        best = torch.stack([drafts[0].vector for drafts in self.drafts]).to(self.vectors)
        size = self.vectors.norm(dim=1, keepdim=True)
        missing = self.z - self._latents(size * normalize(best, dim=1))
        walked = [self._written(self.z + step * missing, sample=False) for step in STEPS]
        for step in STEPS[:SAMPLES]:
            z = self.z + step * missing
            walked.append(self._written(z + SPREAD * torch.randn_like(z), sample=True))
        edits = self._edits(self.z + missing, DRAFTS - len(walked))
        drafts = zip(*walked, edits, strict=True)
        self._judge([[*written, *edited] for *written, edited in drafts])

    def _latents(self, vectors: Tensor) -> Tensor:
        return latents_of(self.model, vectors)

    def _written(self, z: Tensor, sample: bool) -> list[str]:
        seed = int(torch.randint(2**31, ()))
        how = Generation(self.longest, sample, top_p=0.9, seed=seed, banned=self.banned)
        return self.model.decode(z, how)

    def _judge(self, proposed: list[list[str]]) -> None:
        """Read new drafts by the encoder, and keep the best."""
        new = [
            [text for text in dict.fromkeys(texts) if text.strip() and text not in seen]
            for texts, seen in zip(proposed, self.seen, strict=True)
        ]
        texts = [text for part in new for text in part]
        if not texts:
            return
        rows = read_by(self.embed, texts, self.vectors.shape[1])
        owners = torch.tensor([n for n, part in enumerate(new) for _ in part])
        own = normalize(self.vectors.cpu(), dim=1)[owners]
        cosines = (normalize(rows, dim=1) * own).sum(1).tolist()
        for owner, text, cosine, row in zip(owners.tolist(), texts, cosines, rows, strict=True):
            self.seen[owner].add(text)
            self.drafts[owner].append(_Draft(text, cosine, row))
        for drafts in self.drafts:
            drafts.sort(key=lambda draft: -draft.cosine)
            del drafts[KEPT:]

    def _edits(self, z: Tensor, count: int) -> list[list[str]]:
        """The edits of the best drafts of each vector that are most probable under z."""
        owners = [owner for owner, drafts in enumerate(self.drafts) for _ in drafts]
        texts = [draft.text for drafts in self.drafts for draft in drafts]
        rows = self._ids(texts)
        log_p = self._log_p(z[owners], rows)
        codec = self.model.codec
        changes: list[Edit] = []
        places: list[int] = []
        shares = [1 / (1 + place) for drafts in self.drafts for place in range(len(drafts))]
        totals = torch.zeros(len(self.drafts)).index_add(
            0, torch.tensor(owners), torch.tensor(shares)
        )
        for owner, row, each, share in zip(owners, rows, log_p, shares, strict=True):
            most = round(PROPOSED * share / totals[owner].item())
            some = edits(row, each[: len(row) + 1], most, self.begins, self.banned)
            changes += some
            places += [owner] * len(some)
        proposed = self._finished(z, places, changes)
        scores = self._scores(z, places, proposed)
        scores += NOISE * gumbel(len(scores))
        found: list[list[str]] = [[] for _ in self.drafts]
        texts = codec.text(proposed)
        for place in scores.argsort(descending=True).tolist():
            own = found[places[place]]
            if len(own) < count and texts[place] not in self.seen[places[place]]:
                own.append(texts[place])
        return found

    def _finished(self, z: Tensor, owners: list[int], changes: Sequence[Edit]) -> list[list[int]]:
        """Changed texts, their new words written to the end, greedily."""
        heads = [edit.head for edit in changes]
        open_ = [place for place, edit in enumerate(changes) if edit.open]
        if all(self.begins):
            open_ = []
        for _ in range(LONGEST_WORD):
            further = self._next(z, [owners[n] for n in open_], [heads[n] for n in open_])
            still = []
            for place, token in zip(open_, further, strict=True):
                if token != self.model.decoder.special.end and not self.begins[token]:
                    heads[place] = [*heads[place], token]
                    still.append(place)
            open_ = still
        return [[*head, *edit.tail] for head, edit in zip(heads, changes, strict=True)]

    def _next(self, z: Tensor, owners: list[int], rows: Sequence[Sequence[int]]) -> list[int]:
        """The most probable token behind each text [M], under the latent of its owner."""
        decoder = self.model.decoder
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found = torch.zeros(len(rows), dtype=torch.long)
        for first in range(0, len(rows), TEXTS_AT_ONCE):
            some = order[first : first + TEXTS_AT_ONCE]
            ids, _ = self._padded([rows[place] for place in some])
            given = self.model.conditioning(z[[owners[place] for place in some]])
            lengths = torch.tensor([len(rows[place]) for place in some], device=z.device)
            last = decoder.hidden(given, ids)[torch.arange(len(some)), lengths]
            logits = decoder.logits(last)
            logits[:, list(self.banned)] = -torch.inf
            found[some] = logits.argmax(-1).cpu()
        return found.tolist()

    def _scores(self, z: Tensor, owners: list[int], rows: list[list[int]]) -> Tensor:
        """log p(x|z) of texts [M], each under the latent of its owner."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found = torch.zeros(len(rows))
        for first in range(0, len(rows), TEXTS_AT_ONCE):
            some = order[first : first + TEXTS_AT_ONCE]
            ids, targets = self._padded([rows[place] for place in some])
            given = self.model.conditioning(z[[owners[place] for place in some]])
            found[some] = -self.model.decoder.reconstruction(given, ids, targets).float().cpu()
        return found

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """What the decoder reads of texts, and what it predicts, [N T] both."""
        special, width = self.model.decoder.special, 1 + max(map(len, rows))
        ids = torch.full((len(rows), width), special.pad, dtype=torch.long)
        targets = torch.full((len(rows), width), IGNORED, dtype=torch.long)
        ids[:, 0] = special.start
        for place, row in enumerate(rows):
            ids[place, 1 : 1 + len(row)] = targets[place, : len(row)] = torch.tensor(row)
            if special.end is not None:
                targets[place, len(row)] = special.end
        return ids.to(self.z.device), targets.to(self.z.device)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        codec = self.model.codec
        read = tokens.tokenize(codec.decoder_tokenizer, texts, self.longest + 1, None, None)
        return [read[place].tolist() for place in range(len(texts))]

    def _log_p(self, z: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
        """log p of every token at each place of some texts, and at their ends, [N T V]."""
        decoder = self.model.decoder
        hidden = decoder.hidden(self.model.conditioning(z), self._padded(rows)[0])
        return decoder.logits(hidden).float().log_softmax(-1).cpu()


def edits(
    row: Sequence[int],
    log_p: Tensor,
    count: int,
    begins: Sequence[bool],
    banned: Sequence[int] = (),
) -> list[Edit]:
    """Texts that differ from one by a word, those that are least improbable up to there.

    Args:
        row: L ids.
        log_p: of every token at each of the L places and behind the last one, [L + 1 V].
        count: of edits, at most.
        begins: whether each token begins a word.
        banned: ids that are not written.
    """
    length = len(row)
    some = log_p.clone()
    some[:, list(banned)] = -torch.inf
    best = some.topk(min(PER_PLACE, some.shape[1]), dim=1)
    own = log_p[torch.arange(length), torch.tensor(row, dtype=torch.long)].tolist()
    starts = [place for place in range(length) if place == 0 or begins[row[place]]]
    words = list(zip(starts, [*starts[1:], length], strict=False))
    ends = [end for start, end in words for _ in range(start, end)]
    scored: list[tuple[float, Edit]] = []
    for place in range(length + 1):
        head = list(row[:place])
        pairs = zip(best.values[place].tolist(), best.indices[place].tolist(), strict=True)
        for score, token in pairs:
            if place == length or place in starts:
                scored.append((score, Edit([*head, token], list(row[place:]), True)))
            if place < length and token != row[place]:
                edit = Edit([*head, token], list(row[ends[place] :]), True)
                scored.append((score - own[place], edit))
    following = [end for _, end in words[1:]] + [length]
    for (start, end), last in zip(words if len(words) > 1 else [], following, strict=False):
        head, word = list(row[:start]), list(row[start:end])
        score = log_p[start, row[end]].item() - own[start] if end < length else 0.0
        scored.append((score, Edit(head, list(row[end:]), False)))
        if end < length:
            swapped = [*head, *row[end:last], *word]
            scored.append((score, Edit(swapped, list(row[last:]), False)))
    scored = [(score, edit) for score, edit in scored if score > -torch.inf]
    scores = torch.tensor([score for score, _ in scored])
    order = (scores + NOISE * gumbel(len(scores))).argsort(descending=True)[:count]
    return [scored[place][1] for place in order.tolist()]


def word_starts(codec: TextCodec) -> list[bool]:
    """Whether each token begins a word where it follows another one.

    True for all tokens of a vocabulary in which hardly one does: there white space parts no words.
    """
    anchor = codec.ids("a")[:1]
    count = len(codec.decoder_tokenizer)
    [alone], texts = codec.text([anchor]), codec.text([[*anchor, n] for n in range(count)])
    # A token that leaves no trace, such as padding, is no part of a word.
    begins = [text == alone or len(text.split()) > 1 for text in texts]
    return begins if sum(begins) > FEW_WORDS * count else [True] * count


def gumbel(count: int) -> Tensor:
    """Draws of a standard Gumbel distribution: with them the largest score is a sample."""
    return -torch.log(-torch.log(torch.rand(count).clamp(1e-6, 1 - 1e-6)))


def as_tensor(vectors: Any, source: str = "vectors") -> Tensor:
    """Vectors as a user holds them, [N E] in float32, on the CPU."""
    return torch.from_numpy(np.array(as_vectors(vectors, source).rows, dtype=np.float32))


@torch.no_grad()
def latents_of(model: TextModel, vectors: Tensor) -> Tensor:
    """The posterior means of vectors [N E], which the decoder reads, [N P].

    Raises:
        IsthmusError: the head of the model sits on something else.
    """
    encoder: Any = getattr(model, "encoder", None)
    if encoder is None or encoder.in_rows:
        raise IsthmusError(
            "invert: this model has no head on one vector of a text; train one with --embeddings"
        )
    width = encoder.head.in_features
    if vectors.shape[1] != width:
        raise IsthmusError(
            f"vectors: got {vectors.shape[1]:,} numbers each, and this model was trained on "
            f"vectors of {width:,}; give those of the same encoder"
        )
    mask = torch.ones(len(vectors), 1, dtype=torch.long, device=vectors.device)
    mean: Tensor = encoder.posterior(vectors, mask).mean
    return mean


def read_by(embed: Embed | None, texts: list[str], width: int) -> Tensor:
    """The vectors of texts by a user's encoder, [N E].

    Raises:
        IsthmusError: it gives another number of vectors, or of another width.
    """
    assert embed is not None
    rows = as_tensor(embed(texts), "encoder")
    if rows.shape != (len(texts), width):
        raise IsthmusError(
            f"encoder: gave vectors of shape {list(rows.shape)} for {len(texts):,} texts, "
            f"expected [{len(texts)}, {width}]; give the encoder that made the vectors"
        )
    return rows
