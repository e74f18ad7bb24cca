"""One latent, two doors: scenes and emoji, pictures with captions.

    python benchmarks/doors.py train scenes 600   # at most so many seconds; again to go on
    python benchmarks/doors.py measure scenes
    python benchmarks/doors.py train emoji 600
    python benchmarks/doors.py measure emoji
    python benchmarks/doors.py                    # the table and the pages from what is there

A picture of `scenes` shows eight attributes; style, tense and wording of its caption it does not
show. A caption from a picture is therefore judged by what it says, parsed by the grammar, and by
BLEU against all wordings of the scene; against the one caption that the scene came with, BLEU is
given beside it. log p(caption|picture) of the true grammar is known and stands beside the model's.

Emoji: all pictures are trained on, with their names and all keyword captions but one. A picture is
looked for by the one that is held out, among all pictures, by p(caption|picture). The decoder of
captions has MiniLM's vectors of words, among them those of words that no training caption has.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import emoji
from common import RESULTS, read, write
from emoji import CAPTION, PICTURE
from isthmus.commands.common import console, quiet
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
from isthmus.runs.bundle import RUN_FILE, load, read_run
from isthmus.settings import Settings, load_recipe
from isthmus.training.run import SETTINGS_FILE, Interrupted, train

RUNS = Path("runs") / "doors"
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
"""Scenes that are judged on."""


def splits_of(name: str, settings: Settings) -> Splits[Any]:
    """What a run is trained and chosen by."""
    if name == "scenes":
        return captioned.read_splits("scenes", limit=settings.data.limit or None)
    kept, chosen, _ = emoji.parts()
    return Splits(kept, chosen, None, {})


def settings_of(name: str) -> Settings:
    """The recipe, and for emoji what differs from it."""
    recipe = load_recipe("doors")
    if name == "scenes":
        return recipe
    return replace(
        recipe,
        model=replace(
            recipe.model,
            picture=replace(recipe.model.picture, hidden_size=16),
            decoder=replace(recipe.model.decoder, word_vectors=emoji.WORDS),
        ),
        data=replace(recipe.data, limit=0, word_dropout=0.5),
        train=replace(recipe.train, steps=6000),
    )


def run_for(name: str, seconds: float) -> None:
    """Train for so long at most; the next call goes on from the last checkpoint."""
    out = RUNS / name
    legs_file = RUNS / f"{name}-seconds.json"
    legs = json.loads(legs_file.read_text()) if legs_file.is_file() else []
    if (out / RUN_FILE).is_file():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = settings_of(name)
    splits = splits_of(name, settings)
    stop = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    stop.start()
    wall, processor = time.perf_counter(), time.process_time()
    try:
        train(settings, splits, out, resume=(out / SETTINGS_FILE).is_file(), console=console())
    except Interrupted as stopped:
        print(stopped)
    finally:
        stop.cancel()
        spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        legs_file.write_text(json.dumps([*legs, spent]))


def seconds_of(name: str) -> dict[str, float]:
    legs = json.loads((RUNS / f"{name}-seconds.json").read_text())
    return {f"{kind}_seconds": sum(leg[kind] for leg in legs) for kind in legs[0]}


def said(texts: Sequence[str]) -> list[Mapping[str, str]]:
    """The scene that each text tells; nothing for a text that the grammar does not derive."""
    found: list[Mapping[str, str]] = []
    for text in texts:
        derivations = scenes.WORLD.derivations(text)
        found.append(derivations[0].factors if len(derivations) == 1 else {})
    return found


def agreement(
    found: Sequence[Mapping[str, str]], true: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """How many attributes are right; an attribute that is not told is wrong."""
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
    """All sentences that tell what a picture shows, in every style and tense."""
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
    """The attributes of a drawing as the renderer sees them, one by one.

    Each attribute is the value whose true picture, all others being as they should, is nearest.
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
    """What goes in at one door and comes out at the other."""
    sentences = scenes.generate("test", TEST)
    true = [sentence.factors for sentence in sentences]
    examples = captioned.read("scenes", split="test", limit=TEST).examples
    own = [sentence.text for sentence in sentences]
    pictures, texts = (
        model.encode(only(examples, "picture")),
        model.encode(only(examples, "caption")),
    )
    both = model.encode(examples)
    told = model.decode(pictures.mean, CAPTION)
    drawn = model.decode(texts.mean, PICTURE)
    again = model.decode(model.encode([Example(picture=one) for one in drawn]).mean, CAPTION)
    other = round_trip(TEST, 0)
    sampled = model.prior.sample(TEST, torch.Generator().manual_seed(0))
    records: dict[str, Any] = {
        "caption_from_picture": agreement(said(told), true)
        | {
            "bleu_all_wordings": bleu_of_wordings(true, told),
            "bleu_own_caption": bleu(own, told).value / 100,
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
    write_grid([*rows, *drawings_said(model)], RESULTS / "doors_scenes.png")
    return records | {
        "nats": doors,
        "exact_caption_nats": exact.value,
        "samples": said_beside(own[:12], told[:12]),
    }


def said_beside(own: Sequence[str], told: Sequence[str]) -> list[dict[str, str]]:
    return [{"its caption": a, "told": b} for a, b in zip(own, told, strict=True)]


def drawings_said(model: JointModel) -> list[list[NDArray[np.uint8]]]:
    """One sentence with one attribute changed along a row."""
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
    """Add what is measured of a run to results/doors.json."""
    if name == "scenes":
        found = measure_scenes(model_of(name))
    else:  # the page has words and pictures of the data, which are not committed
        found = emoji.measure(model_of(name), RUNS / "emoji.png")
    record = read_run(RUNS / name)
    own = {
        "training": seconds_of(name) | {"steps": record["steps"]},
        "active_units": record["metrics"]["active_units"],
        "settings": record["settings"],
    }
    before = read("doors") or {}
    before.pop("circumstances", None)
    write("doors", before | {name: own | found})


def table() -> None:
    """results/doors.md from results/doors.json."""
    record = read("doors") or {}
    lines = []
    if found := record.get("scenes"):
        lines += [
            f"Scenes, {TEST:,} of the test split.",
            "",
            "| in → out | of the grammar | attributes kept | all of them | BLEU-4, all wordings "
            "| BLEU-4, its own caption |",
            "|---|---|---|---|---|---|",
        ]
        for name, label in ROWS.items():
            row = found[name]
            error = row.get("all_attributes_se")
            cells = [
                _cell(row.get("sentences_of_the_grammar")),
                _cell(row.get("attributes")),
                _cell(row.get("all_attributes")) + ("" if error is None else f" ± {error:.3f}"),
                _cell(row.get("bleu_all_wordings")),
                _cell(row.get("bleu_own_caption")),
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        nats = found["nats"] | {"exact": found["exact_caption_nats"]}
        lines += ["", "| −log p, nats | value |", "|---|---|"]
        lines += [f"| {label} | {nats[name]:,.2f} |" for name, label in NATS.items()]
    if found := record.get("emoji"):
        lines += [
            "",
            f"Emoji: the right picture of {found['pictures']:,}, {found['searches']} searches "
            "by a held-out caption.",
            "",
            "| ranked by | first | among 5 | among 10 |",
            "|---|---|---|---|",
        ]
        rankings = {
            "model": "p(caption given picture)",
            "tfidf": "its other captions, TF-IDF",
            "vectors": "its other captions, mean word vectors of MiniLM",
        }
        for name, label in rankings.items():
            cells = [
                f"{found[f'{name}_recall_at_{k}']:.3f} ± {found[f'{name}_recall_at_{k}_se']:.3f}"
                for k in (1, 5, 10)
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    (RESULTS / "doors.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    torch.set_num_threads(1)
    quiet()
    match sys.argv[1:]:
        case ["train", ("scenes" | "emoji") as name, seconds]:
            run_for(name, float(seconds))
        case ["measure", ("scenes" | "emoji") as name]:
            measure(name)
        case []:
            table()
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
