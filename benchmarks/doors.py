"""One latent for two modalities: scenes and emoji, pictures with captions.

    python benchmarks/doors.py train scenes 600   # at most 600 seconds; repeat to continue
    python benchmarks/doors.py measure scenes
    python benchmarks/doors.py train emoji 600
    python benchmarks/doors.py measure emoji
    python benchmarks/doors.py                    # the table and the pages from finished runs

A picture of `scenes` shows eight attributes; it does not show style, tense and wording of its
caption. A caption from a picture is therefore judged by what it says, parsed by the grammar, and
by BLEU against all wordings of the scene; BLEU against the one caption of the scene is given as
well. log p(caption|picture) of the true grammar is known and is listed next to the model's.

Emoji: all pictures are trained on, with their names and all keyword captions but one. A held-out
caption has to find its picture among all pictures, by p(caption|picture). The decoder of captions
has MiniLM's word vectors, including those of words that no training caption has.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import emoji
from common import (
    RESULTS,
    one_thread,
    plus_minus,
    read,
    seconds_of,
    settings_of,
    table,
    trained,
    write,
    write_text,
)
from common import RUNS as ALL_RUNS
from emoji import CAPTION, PICTURE
from isthmus.data import captioned, scenes
from isthmus.data.captioned import Example
from isthmus.data.kind import Splits
from isthmus.data.pictures import write_grid
from isthmus.data.scenes.corpus import STYLES, TENSES
from isthmus.data.scenes.nodes import ABSENT
from isthmus.evaluation.likelihood import round_trip
from isthmus.evaluation.measures import Effort
from isthmus.evaluation.modalities import modality_metrics, only, predictive_nats
from isthmus.evaluation.text import bleu
from isthmus.evaluation.usage import Estimate
from isthmus.models.joint.model import JointModel
from isthmus.runs.bundle import load, read_run
from isthmus.settings import Settings
from isthmus.training import Interrupted

RUNS = ALL_RUNS / "doors"
ROWS = {
    "caption_from_picture": "picture → caption",
    "caption_from_caption": "caption → caption",
    "caption_from_both": "both → caption",
    "caption_picture_caption": "caption → picture → caption",
    "picture_from_caption_by_renderer": "caption → picture, read by the renderer",
    "shuffled": "another's picture → caption",
    "prior": "the prior → caption",
}
NATS = {
    "caption_from_picture": "caption, from the picture",
    "exact": "caption, from the picture, of the grammar itself",
    "caption_from_picture_shuffled": "caption, from another's picture",
    "caption_from_prior": "caption, from the prior",
    "caption_from_picture_1_draws": "caption, from the picture, one draw of z",
    "caption_from_picture_10_draws": "caption, from the picture, mean over ten draws",
    "caption_at_the_mean": "caption, from the picture, at the mean of z",
    "caption_nll_iw": "caption alone (importance-weighted bound)",
    "picture_from_caption": "picture, from the caption",
    "picture_from_caption_shuffled": "picture, from another's caption",
    "picture_from_prior": "picture, from the prior",
    "picture_nll_iw": "picture alone (importance-weighted bound)",
}
TEST = 1000
"""Test scenes."""


EMOJI: dict[str, Any] = {
    "model": {"picture": {"hidden_size": 16}, "decoder": {"word_vectors": emoji.WORDS}},
    "data": {"limit": 0, "word_dropout": 0.5},
    "train": {"steps": 6000},
}
"""Changes to the recipe."""


def splits_of(name: str, settings: Settings) -> Splits[Any]:
    """Training and validation data."""
    if name == "scenes":
        return captioned.read_splits("scenes", limit=settings.data.limit or None)
    kept, chosen, _ = emoji.parts()
    return Splits(kept, chosen, None, {})


def train(name: str, seconds: float) -> None:
    """Train for a time at most; the next call resumes from the last checkpoint."""
    settings = settings_of("doors", EMOJI if name == "emoji" else {})
    stop = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    stop.start()
    try:
        trained(RUNS / name, settings, splits_of(name, settings))
    except Interrupted as stopped:
        print(stopped)
    finally:
        stop.cancel()


def said(texts: Sequence[str]) -> list[Mapping[str, str]]:
    """The scene that each text describes; nothing for a text that the grammar does not derive."""
    found: list[Mapping[str, str]] = []
    for text in texts:
        derivations = scenes.WORLD.derivations(text)
        found.append(derivations[0].factors if len(derivations) == 1 else {})
    return found


def agreement(
    found: Sequence[Mapping[str, str]], true: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Share of attributes that are right; a missing attribute counts as wrong."""
    right = np.array(
        [
            [one.get(name) == truth[name] for name in scenes.VISIBLE]
            for one, truth in zip(found, true, strict=True)
        ]
    )
    exact = Estimate.mean_of(torch.from_numpy(right.all(1)).double())
    kept = Estimate.mean_of(torch.from_numpy(right.mean(1)))
    return {
        "sentences_of_the_grammar": sum(map(bool, found)) / len(found),
        "attributes": kept.value,
        "attributes_se": kept.standard_error,
        "all_attributes": exact.value,
        "all_attributes_se": exact.standard_error,
        "each": dict(zip(scenes.VISIBLE, right.mean(0).tolist(), strict=True)),
    }


def wordings(scene: Mapping[str, str]) -> list[str]:
    """All sentences that describe what a picture shows, in every style and tense."""
    return [
        sentence.text
        for style in STYLES
        for tense in TENSES
        for sentence in scenes.WORLD.wordings({**scene, "style": style, "tense": tense})
    ]


def bleu_of_wordings(true: Sequence[Mapping[str, str]], texts: Sequence[str]) -> float:
    """Corpus BLEU-4, 0–1, each text against all wordings of its scene."""
    from sacrebleu.metrics.bleu import BLEU

    references = [wordings(scene) for scene in true]
    longest = max(map(len, references))
    padded = [own + [None] * (longest - len(own)) for own in references]
    streams = [list(stream) for stream in zip(*padded, strict=True)]
    return BLEU(tokenize="none", force=True).corpus_score(list(texts), streams).score / 100


def exact_nats(sentences: Sequence[scenes.Sentence]) -> Estimate:
    """−log p(caption|picture) of the grammar itself: p(text) / p(what is visible)."""
    visible = [factor for factor in scenes.WORLD.factors if factor.name in scenes.VISIBLE]
    nats = [
        sum(np.log(factor.probability(s.factors)) for factor in visible) - s.log_probability
        for s in sentences
    ]
    return Estimate.mean_of(torch.tensor(nats, dtype=torch.double))


def looked_at(picture: NDArray[np.uint8], scene: Mapping[str, str]) -> dict[str, str]:
    """The attributes of a generated picture by the renderer, one by one.

    Each is the value whose true picture, with all other attributes right, is nearest.
    """
    drawn = np.moveaxis(picture, 0, -1).astype(np.float64)
    found = {}
    for factor in scenes.WORLD.factors:
        if factor.name not in scenes.VISIBLE:
            continue
        distances = {}
        for value in [scene[factor.name]] if scene[factor.name] == ABSENT else factor.weights:
            changed = {**scene, factor.name: value}
            if factor.name == "relation" and ABSENT in changed.values() and value != "alone":
                continue
            distances[value] = np.square(scenes.render(changed) - drawn).sum()
        found[factor.name] = min(distances, key=lambda value: distances[value])
    return found


def measure_scenes(model: JointModel) -> dict[str, Any]:
    """From each modality to the other and back."""
    sentences = scenes.generate("test", TEST)
    true = [sentence.factors for sentence in sentences]
    examples = captioned.read("scenes", split="test", limit=TEST).examples
    own = [sentence.text for sentence in sentences]
    pictures = model.encode(only(examples, "picture"))
    texts = model.encode(only(examples, "caption"))
    both = model.encode(examples)
    captions = model.decode(pictures.mean, CAPTION)
    drawn = model.decode(texts.mean, PICTURE)
    again = model.decode(model.encode([Example(picture=one) for one in drawn]).mean, CAPTION)
    other = round_trip(TEST, 0)
    sampled = model.prior.sample(TEST, torch.Generator().manual_seed(0))
    records: dict[str, Any] = {
        "caption_from_picture": agreement(said(captions), true)
        | {
            "bleu_all_wordings": bleu_of_wordings(true, captions),
            "bleu_own_caption": bleu(own, captions).value / 100,
        },
        "caption_from_caption": agreement(said(model.decode(texts.mean, CAPTION)), true)
        | {"bleu_own_caption": bleu(own, model.decode(texts.mean, CAPTION)).value / 100},
        "caption_from_both": {
            "bleu_own_caption": bleu(own, model.decode(both.mean, CAPTION)).value / 100
        },
        "caption_picture_caption": agreement(said(again), true),
        "picture_from_caption_by_renderer": agreement(
            [looked_at(one, scene) for one, scene in zip(drawn[:300], true[:300], strict=True)],
            true[:300],
        ),
        "shuffled": agreement(said(model.decode(pictures.mean[other], CAPTION)), true),
        "prior": agreement(said(model.decode(sampled, CAPTION)), true),
    }
    doors = modality_metrics(model, examples, Effort(20, TEST))
    exact = exact_nats(sentences)
    targets = model.codec.prepare(only(examples, "caption"))
    for count in (1, 10):
        nats = predictive_nats(model, pictures, targets, samples=count)
        doors[f"caption_from_picture_{count}_draws"] = Estimate.mean_of(nats).value
    at_mean = model.part_losses(pictures.mean.unsqueeze(0), targets.collate(range(TEST)))
    doors["caption_at_the_mean"] = Estimate.mean_of(at_mean["caption"][0].detach()).value
    rows = [[one.picture for one in examples[:16]], drawn[:16]]
    write_grid([*rows, *changed_scenes(model)], RESULTS / "doors_scenes.png")
    return records | {
        "nats": doors,
        "exact_caption_nats": exact.value,
        "samples": [
            {"its caption": a, "from the picture": b}
            for a, b in zip(own[:12], captions[:12], strict=True)
        ],
    }


def changed_scenes(model: JointModel) -> list[list[NDArray[np.uint8]]]:
    """Pictures of one sentence with one attribute changed along a row."""
    start = "two small red cats sit above a blue house in the meadow"
    rows = []
    for name, values in {
        "colour": ("red", "orange", "yellow", "green", "blue", "purple"),
        "animal": ("cat", "dog", "rabbit", "bear", "mouse", "frog", "pig", "bird"),
        "relation": ("above", "below", "left", "right"),
        "place": ("meadow", "beach", "forest", "desert", "mountain", "city"),
    }.items():
        texts = [scenes.counterpart(start, **{name: value}) for value in values]
        z = model.encode([Example(caption=text) for text in texts]).mean
        rows.append(model.decode(z, PICTURE))
    return rows


def model_of(name: str) -> JointModel:
    model = load(RUNS / name)
    assert isinstance(model, JointModel)
    return model


def measure(name: str) -> None:
    """Add the figures of a run to results/doors.json."""
    if name == "scenes":
        found = measure_scenes(model_of(name))
    else:  # the page shows words and pictures of the data, which are not committed
        found = emoji.measure(model_of(name), RUNS / "emoji.png")
    record = read_run(RUNS / name)
    own = {
        "training": seconds_of(RUNS / name) | {"steps": record["steps"]},
        "active_units": record["metrics"]["active_units"],
        "settings": record["settings"],
    }
    before = read("doors") or {}
    before.pop("circumstances", None)
    write("doors", before | {name: own | found})


def tables() -> str:
    """Markdown of results/doors.json."""
    record = read("doors") or {}
    lines = []
    if found := record.get("scenes"):
        head = ("of the grammar", "attributes kept", "all of them", "BLEU-4, all wordings")
        rows = [
            (
                label,
                cell(found[name], "sentences_of_the_grammar"),
                cell(found[name], "attributes"),
                cell(found[name], "all_attributes", found[name].get("all_attributes_se")),
                cell(found[name], "bleu_all_wordings"),
                cell(found[name], "bleu_own_caption"),
            )
            for name, label in ROWS.items()
        ]
        lines += [f"Scenes, {TEST:,} of the test split.", ""]
        lines += table(["in → out", *head, "BLEU-4, its own caption"], rows)
        nats = found["nats"] | {"exact": found["exact_caption_nats"]}
        values = [(label, f"{nats[name]:,.2f}") for name, label in NATS.items()]
        lines += ["", *table(["−log p, nats", "value"], values)]
    if found := record.get("emoji"):
        rankings = {
            "model": "p(caption given picture)",
            "tfidf": "its other captions, TF-IDF",
            "vectors": "its other captions, mean word vectors of MiniLM",
        }
        keys = {name: [f"{name}_recall_at_{k}" for k in (1, 5, 10)] for name in rankings}
        rows = [
            (label, *(cell(found, key, found[f"{key}_se"]) for key in keys[name]))
            for name, label in rankings.items()
        ]
        count = f"{found['pictures']:,}, {found['searches']}"
        lines += ["", f"Emoji: the right picture of {count} searches by a held-out caption.", ""]
        lines += table(["ranked by", "first", "among 5", "among 10"], rows)
    return "\n".join(lines) + "\n"


def cell(row: Mapping[str, float], key: str, error: float | None = None) -> str:
    """A figure with its error; empty if the row lacks it."""
    return plus_minus(row[key], error) if key in row else ""


def main() -> None:
    one_thread()
    match sys.argv[1:]:
        case ["train", ("scenes" | "emoji") as name, seconds]:
            train(name, float(seconds))
        case ["measure", ("scenes" | "emoji") as name]:
            measure(name)
        case []:
            write_text("doors", tables())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
