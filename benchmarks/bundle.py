"""The run that the package ships, src/isthmus/studio/bundle: train, measure, copy there.

Trained from ``benchmarks/bundle.toml`` on scenes, whose entropy is known exactly. Measured on test
sentences: the bounds, exact reconstructions, walks and samples (the share of texts that are
sentences of the grammar), analogies and changes of tense against the one right answer of the
grammar, and the time to decode. An interrupted run resumes.

    python benchmarks/bundle.py      # about a quarter of an hour on one core
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from typing import Any

import torch

import common
from common import BENCHMARKS, one_thread, seconds_of, settings_of, share, write
from isthmus.data import scenes
from isthmus.data.corpus import read_splits
from isthmus.evaluation.metrics import evaluate, work
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import analogy, decode_as, interpolate, sample
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.models.tuning import parameter_count
from isthmus.progress import console, counting
from isthmus.runs.bundle import RUN_FILE, load, read_run
from isthmus.runs.digests import seal
from isthmus.studio.health import curves
from isthmus.studio.shipped import LABEL, labelled
from isthmus.training.run import LOG_FILE

RECIPE = BENCHMARKS / "bundle.toml"
FIRST, RUN = common.RUNS / "bundle-first", common.RUNS / "bundle"
PLACE = BENCHMARKS.parent / "src" / "isthmus" / "studio" / "bundle"
SENTENCES, SAMPLES = 1000, 20
WALKS, POINTS = 100, 5
ANALOGIES = 400
ANALOGY_FACTORS = ("colour", "count", "place", "animal")
LARGEST = 10_000_000
"""Most bytes that the package may carry."""
ORIGIN = """
The corpus is made by Isthmus' own grammar (`isthmus.data.scenes`): no text, weight or picture of
anyone else is in this run. Licence: Apache-2.0, as Isthmus. Meant for a first look at a latent
space; it knows 201 words and nothing of the world. `benchmarks/bundle.py` makes it again.
"""


def trained() -> LatentModel:
    """The run, after an autoencoder that puts the whole sentence into z."""
    splits = read_splits("scenes")
    splits = dataclasses.replace(
        splits, train=labelled(splits.train), valid=labelled(splits.valid)
    )
    first = {
        "data": {"code_dropout": 0.1},
        "objective": {"beta": 0.05},
        "train": {"epochs": 0.55, "learning_rate": 3e-3, "start_from": ""},
    }
    common.trained(FIRST, settings_of(str(RECIPE), first), splits)
    found: LatentModel = common.trained(RUN, settings_of(str(RECIPE)), splits)
    return found


def is_sentence(text: str) -> bool:
    """Whether the grammar derives it."""
    return scenes.log_probability(text) > -math.inf


def changed(text: str, factor: str) -> str:
    """The same sentence with the next value of a factor."""
    [values] = [known.values for known in scenes.WORLD.factors if known.name == factor]
    value = scenes.factors(text)[factor]
    return scenes.counterpart(text, **{factor: values[(values.index(value) + 1) % len(values)]})


def walks(model: LatentModel, texts: list[str]) -> dict[str, Any]:
    """Share of points between pairs of sentences that are sentences."""
    mean, own = model.encode(texts[: 2 * WALKS]).mean, model.classify(texts[: 2 * WALKS])
    names = [model.config.label_names[place] for place in own.argmax(-1)]
    between, labels = [], []
    for place in range(0, 2 * WALKS, 2):
        between.append(interpolate(mean[place], mean[place + 1], POINTS)[1:-1])
        labels += [names[place + (2 * step > POINTS)] for step in range(POINTS)]
    return share([is_sentence(text) for text in decode_as(model, torch.cat(between), labels)])


def analogies(model: LatentModel, texts: list[str]) -> dict[str, Any]:
    """A is to B as C is to …, by factor; right is the grammar's own answer word for word.

    A and C have the same style, because styles share no words and so no directions either.
    """
    known = [scenes.factors(text) for text in texts]
    found: dict[str, list[bool]] = {factor: [] for factor in ANALOGY_FACTORS}
    for index in range(ANALOGIES):
        factor = ANALOGY_FACTORS[index % len(ANALOGY_FACTORS)]
        alike = (factor, "style")
        a, of_a = texts[index], known[index]
        others = range(index + 1, len(texts))
        place = next(o for o in others if all(known[o][name] == of_a[name] for name in alike))
        c = texts[place]
        z_a, z_b, z_c = model.encode([a, changed(a, factor), c]).mean
        asked = Generation(label=known[place][LABEL])
        [answer] = model.decode(analogy(z_a, z_b, z_c)[None], asked)
        found[factor].append(answer == changed(c, factor))
    every = [right for rights in found.values() for right in rights]
    return share(every) | {"by_factor": {name: share(rights) for name, rights in found.items()}}


def relabelled(model: LatentModel, texts: list[str]) -> dict[str, Any]:
    """Decode the same z under another label: is it the same scene in another tense?"""
    mean = model.encode(texts).mean
    words, label, scene = [], [], []
    for name in model.config.label_names:
        rows = [i for i, text in enumerate(texts) if scenes.factors(text)[LABEL] != name]
        for row, text in zip(rows, model.decode(mean[rows], Generation(label=name)), strict=True):
            known = scenes.factors(text) if is_sentence(text) else {}
            words.append(text == scenes.counterpart(texts[row], **{LABEL: name}))
            label.append(known.get(LABEL) == name)
            scene.append(known == scenes.factors(texts[row]) | {LABEL: name})
    return {
        "word_for_word": share(words),
        "has_the_label": share(label),
        "same_scene": share(scene),
    }


def seconds(call: Callable[[], object], times: int = 20) -> float:
    """Median over calls."""
    spent = []
    for _ in range(times):
        before = time.perf_counter()
        call()
        spent.append(time.perf_counter() - before)
    return sorted(spent)[times // 2]


def placed() -> dict[str, int]:
    """Copy the run into the package: its files, its log thinned, a card with the licence."""
    record = read_run(RUN)
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    for name in record["files"]:
        shutil.copyfile(RUN / name, PLACE / name)
    card = (RUN / "README.md").read_text(encoding="utf-8")
    card = card.replace("library_name: isthmus", "library_name: isthmus\nlicense: apache-2.0", 1)
    head, rows = card.split("\nMeasured on", 1)
    (PLACE / "README.md").write_text(f"{head}{ORIGIN}\nMeasured on{rows}", encoding="utf-8")
    log = "".join(json.dumps(line) + "\n" for line in curves(RUN))
    (PLACE / LOG_FILE).write_text(log, encoding="utf-8")
    record["files"]["README.md"] = (PLACE / "README.md").stat().st_size
    seal(record, PLACE, record["files"], RUN_FILE)
    (PLACE / RUN_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sizes = {path.name: path.stat().st_size for path in sorted(PLACE.iterdir())}
    if sum(sizes.values()) > LARGEST:
        raise SystemExit(f"{sum(sizes.values()):,} bytes, expected {LARGEST:,} at most")
    return sizes


def main() -> None:
    one_thread()
    model = trained()
    texts = [sentence.text for sentence in scenes.generate("test", SENTENCES)]
    labels = [scenes.factors(text)[LABEL] for text in texts]
    examples = model.codec.prepare(texts)
    with counting(console(), "measuring", work(examples, SENTENCES)) as progress:
        metrics = evaluate(
            model, examples, samples=SAMPLES, texts=SENTENCES, labels=labels, progress=progress
        )
    exact = torch.tensor([-scenes.log_probability(text) for text in texts])
    drawn = sample(model, SENTENCES)
    one = model.encode(texts[:1]).mean
    results = {
        "recipe": RECIPE.name,
        "steps": read_run(RUN)["steps"],
        "parameters": parameter_count(model)[0],
        "seconds_trained": {out.name: seconds_of(out)["wall_seconds"] for out in (FIRST, RUN)},
        "entropy": scenes.entropy().nats_per_sentence,
        "entropy_of_these_sentences": Estimate.mean_of(exact).value,
        "samples_that_are_sentences": share([is_sentence(text) for text in drawn]),
        "walks_that_are_sentences": walks(model, texts),
        "analogies": analogies(model, texts),
        "relabelled": relabelled(model, texts[:400]),
        "seconds_to_load": seconds(lambda: load(RUN), 3),
        "seconds_to_decode_one": seconds(lambda: model.decode(one)),
        "bytes": placed(),
        "test": metrics,
    }
    write("studio_bundle", results)


if __name__ == "__main__":
    main()
