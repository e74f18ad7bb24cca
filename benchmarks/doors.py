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
looked for by the one that is held out, among all pictures, by p(caption|picture).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common import DATA, RESULTS, read, write
from isthmus.bundle import RUN_FILE, load, read_run
from isthmus.commands.common import console, quiet
from isthmus.data import captioned, scenes
from isthmus.data.captioned import CaptionedCorpus, CaptionedSplits, Example
from isthmus.data.pictures import write_grid
from isthmus.data.scenes.corpus import STYLES, TENSES
from isthmus.data.scenes.nodes import ABSENT
from isthmus.evaluate.doors import door_metrics, only, predictive_nats, round_trip
from isthmus.evaluate.text import bleu
from isthmus.evaluate.usage import Estimate
from isthmus.models.generation import Generation
from isthmus.models.joint.model import JointModel
from isthmus.run import SETTINGS_FILE, Interrupted, train
from isthmus.settings import Settings, load_recipe

RUNS = Path("runs") / "doors"
EMOJI = DATA / "images" / "emoji_google.npz"
TEST = 1000
"""Scenes that are judged on."""
SHUFFLES = 6
"""Random captions for a picture of emoji to train on."""
SEARCHED = 250
"""Held-out captions that a picture is looked for by."""
CAPTION = Generation(max_new_tokens=40, part="caption")
PICTURE = Generation(part="picture")


def splits_of(name: str, settings: Settings) -> CaptionedSplits:
    """What a run is trained and chosen by."""
    if name == "scenes":
        return captioned.read_splits("scenes", limit=settings.data.limit or None)
    kept, chosen, _ = emoji()
    return CaptionedSplits(kept, chosen, None, {})


def emoji() -> tuple[CaptionedCorpus, CaptionedCorpus, list[tuple[int, str]]]:
    """Captions to train on, to choose by and to search by: (place of the picture, caption).

    Of every picture one keyword caption is held out to search by, and of 200 that have three of
    them or more, another one to look at in training; seeded. Beside the others stand random
    captions of the keywords that are left.
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
        examples = [Example(firsts[number], caption) for number, caption in pairs]
        return CaptionedCorpus(examples, [names[number] for number, _ in pairs], str(EMOJI))

    return part(train), part(choice), search


def settings_of(name: str) -> Settings:
    """The recipe, and for emoji what differs from it."""
    recipe = load_recipe("doors")
    if name == "scenes":
        return recipe
    return replace(
        recipe,
        data=replace(recipe.data, limit=0),
        objective=replace(recipe.objective, beta=25.0),
        train=replace(recipe.train, steps=1500),
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
    return {f"{kind}_seconds": sum(leg[kind] for leg in legs) for kind in ("wall", "processor")}


# Scenes


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


def measure_scenes() -> dict[str, Any]:
    model = model_of("scenes")
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
    doors = door_metrics(model, examples, samples=20, texts=TEST)
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


# Emoji


def recall(better: NDArray[np.int64], ties: NDArray[np.int64], k: int) -> Estimate:
    """Share of searches whose picture is among the first k; ties in random order, exactly."""
    hits = np.clip((k - better) / (ties + 1), 0, 1)
    return Estimate.mean_of(torch.from_numpy(hits))


def ranks(scores: NDArray[np.float64], right: Sequence[int]) -> tuple[Any, Any]:
    """How many score better than the right one, and how many others as well, [N] each."""
    own = scores[np.arange(len(scores)), list(right)][:, None]
    return (scores > own).sum(1), (scores == own).sum(1) - 1


@torch.no_grad()
def log_likelihoods(model: JointModel, z: Tensor, caption: str) -> NDArray[np.float64]:
    """Log p(caption|z) under each latent [M P], [M]."""
    examples = model.codec.prepare([Example(caption=caption)] * len(z))
    batch = examples.collate(range(len(z)))
    return -model.part_losses(z.unsqueeze(0), batch)["caption"][0].double().numpy()


def ruler(kept: CaptionedCorpus, pictures: Sequence[str], queries: Sequence[str]) -> Any:
    """Cosine of TF-IDF vectors of a caption and of all the training captions of each picture."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = dict.fromkeys(pictures, "")
    for name, example in zip(kept.names, kept.examples, strict=True):
        texts[name] += f" {example.caption}"
    vectors = TfidfVectorizer(token_pattern=r"[^ ,]+")
    return (
        vectors.fit(texts.values()).transform(queries) @ vectors.transform(texts.values()).T
    ).toarray()


def measure_emoji() -> dict[str, Any]:
    model = model_of("emoji")
    kept, _, search = emoji()
    corpus = captioned.read(str(EMOJI))
    first: dict[str, Example] = {}
    for name, example in zip(corpus.names, corpus.examples, strict=True):
        first.setdefault(name, example)
    z = model.encode(only(list(first.values()), "picture")).mean
    draws = np.random.Generator(np.random.Philox(key=1))
    chosen = [search[n] for n in sorted(draws.permutation(len(search))[:SEARCHED].tolist())]
    right, queries = [place for place, _ in chosen], [text for _, text in chosen]
    scores = np.stack([log_likelihoods(model, z, text) for text in queries])
    tables = {
        "model": ranks(scores, right),
        "tfidf": ranks(ruler(kept, list(first), queries), right),
    }
    everything = ruler(kept, list(first), [text for _, text in search])
    tables["tfidf_all_searches"] = ranks(everything, [place for place, _ in search])
    found: dict[str, Any] = {
        "pictures": len(z),
        "searches": len(chosen),
        "all_searches": len(search),
    }
    for kind, (better, ties) in tables.items():
        for k in (1, 5, 10):
            estimate = recall(better, ties, k)
            found[f"{kind}_recall_at_{k}"] = estimate.value
            found[f"{kind}_recall_at_{k}_se"] = estimate.standard_error
    examples = [Example(one.picture, one.caption) for one in first.values()]
    page = draws.permutation(len(examples))[:48].tolist()
    told = model.decode(z[page], CAPTION)
    names = [examples[place].caption for place in page]
    drawn = model.decode(model.encode([Example(caption=name) for name in names]).mean, PICTURE)
    emoji_page([examples[place].picture for place in page], drawn, names, told)
    return found


def emoji_page(
    pictures: Sequence[Any], drawn: Sequence[Any], names: Sequence[Any], told: Sequence[str]
) -> None:
    """Pictures, what is drawn from their names, and what is told of them, as one figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(8, 6, figsize=(15, 15))
    for axis, picture, drawing, name, words in zip(
        axes.flat, pictures, drawn, names, told, strict=True
    ):
        axis.imshow(np.concatenate([np.moveaxis(p, 0, -1) for p in (picture, drawing)], axis=1))
        axis.set_title(f"{name[:34]}\n→ {words[:34]}", fontsize=7)
        axis.axis("off")
    figure.suptitle(
        "left: picture, right: drawn from its name; below the name: told of the picture"
    )
    figure.tight_layout()
    figure.savefig(RUNS / "emoji.png", dpi=80)
    pyplot.close(figure)


def model_of(name: str) -> JointModel:
    model = load(RUNS / name)
    assert isinstance(model, JointModel)
    return model


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "scenes": measure_scenes,
    "emoji": measure_emoji,
}


def measure(name: str) -> None:
    """Add what is measured of a run to results/doors.json."""
    found = MEASURES[name]()
    record = read_run(RUNS / name)
    own = {
        "training": seconds_of(name) | {"steps": record["steps"]},
        "settings": record["settings"],
    }
    before = read("doors") or {}
    before.pop("circumstances", None)
    write("doors", before | {name: own | found})


def main() -> None:
    torch.set_num_threads(1)
    quiet()
    match sys.argv[1:]:
        case ["train", ("scenes" | "emoji") as name, seconds]:
            run_for(name, float(seconds))
        case ["measure", ("scenes" | "emoji") as name]:
            measure(name)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
