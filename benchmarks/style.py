"""Style transfer: encode a sentence, change its code, decode.

A VAE under codes, p(x|z, c) and q(z|x, c) (recipe style), trained on sentences of two styles that
are no pairs. Test sentences are encoded with the code that the model itself finds, and decoded
under the other one, with guidance γ: l_own + γ (l_other − l_own). For every γ: how many texts the
other style has by a TF-IDF classifier trained on the real texts; BLEU of the text to its source;
perplexity under a language model without codes. γ = 0 is the reconstruction. Beside it two
rulers: the source itself, and a random training sentence of the other style.

    python benchmarks/style.py yelp caption_style    # about half an hour on one core
    python benchmarks/style.py                       # results and picture from what is there
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import control
from common import DATA, RESULTS, write
from control import Task, classifier, merged, per_word, share, trained
from isthmus.commands.common import quiet
from isthmus.data.corpus import Corpus, read
from isthmus.evaluate.text import bleu
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.settings import Settings, from_dict, load_recipe

RUNS = Path("runs/style")
GUIDANCE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
TEST = 1000
SIZES = {"yelp": 162_424, "caption_style": 12_000}
OWN: dict[str, dict[str, Any]] = {
    "yelp": {
        "model": {"latent_size": 128},
        "objective": {"beta": 0.01},
        "train": {"steps": 4000, "evaluations": 1},
    },
    # With an adversary that tells the style from z: what it buys, and what it costs.
    "yelp-adversary": {
        "model": {"adversary": True},
        "objective": {"adversary": 10.0, "beta": 0.03},
        "train": {"epochs": 5.0},
    },
    "caption_style": {"train": {"epochs": 10.0}},
}
"""What differs from the recipe."""

JUDGE_EPOCHS = {"yelp": 2.5, "caption_style": 10.0}


def task(name: str) -> Task:
    """Sentences to learn from, to choose weights by and to judge by."""
    if name == "yelp":
        parts = {
            split: read(str(DATA / "yelp"), split=split) for split in ("train", "valid", "test")
        }
        names = {"0": "negative", "1": "positive"}
        cut = [
            Corpus(
                parts[split].texts[:size],
                [names[label] for label in parts[split].labels[:size]],
                f"yelp/{split}",
            )
            for split, size in (("train", SIZES[name]), ("valid", 500), ("test", TEST))
        ]
        return Task(*cut)
    train = captions("train")
    dev = captions("dev")
    halves = [dev.texts[::2], dev.texts[1::2]], [dev.labels[::2], dev.labels[1::2]]
    valid, test = (Corpus(*pair, "caption_style/dev") for pair in zip(*halves, strict=True))
    return Task(train, valid, test)


def captions(split: str) -> Corpus:
    """Humorous and romantic captions, one after the other."""
    texts, labels = [], []
    for number, style in enumerate(("humorous", "romantic")):
        corpus = read(str(DATA / "caption_style" / f"{split}.{number}.txt.gz"))
        texts += [text.lower().rstrip(" .") for text in corpus.texts]
        labels += [style] * len(corpus)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(texts)).tolist()
    return Corpus([texts[i] for i in order], [labels[i] for i in order], f"caption_style/{split}")


def figures(
    sources: list[str], texts: list[str], wanted: list[str], judge: Any, other: LatentModel
) -> dict[str, Any]:
    """The three sides of a transfer."""
    return {
        "transferred": share((judge.predict(texts) == np.array(wanted)).tolist()),
        "self_bleu": bleu(sources, texts).value,
        "self_bleu_se": bleu(sources, texts).standard_error,
        "perplexity": per_word(other, texts),
    }


def transfer(
    model: LatentModel, sources: list[str], wanted: list[str], guidance: float
) -> list[str]:
    """The sources under the wanted codes."""
    z = model.encode(sources).mean
    texts = [""] * len(sources)
    for label in sorted(set(wanted)):
        rows = [row for row, name in enumerate(wanted) if name == label]
        [away] = [name for name in model.config.label_names if name != label]
        against = None if guidance == 1 else away
        settings = Generation(max_new_tokens=40, label=label, guidance=guidance, against=against)
        found = model.decode(z[rows], settings)
        for row, text in zip(rows, found, strict=True):
            texts[row] = text
    return texts


def settings_of(name: str, changes: dict[str, Any]) -> Settings:
    base = merged(dataclasses.asdict(load_recipe("style")), OWN[name])
    return from_dict(Settings, merged(base, changes), "benchmark")


def measure(name: str) -> None:
    """Train, transfer, judge, write down."""
    control.RUNS = RUNS
    data = name.partition("-")[0]
    cut = task(data)
    judge = classifier(cut)
    model, minutes = trained(name, settings_of(name, {}), cut)
    plain = merged(dataclasses.asdict(load_recipe("lstm-vae")), control.JUDGE)
    plain["train"]["epochs"] = JUDGE_EPOCHS[data]
    other, _ = trained(f"{data}-judge", from_dict(Settings, plain, "judge"), cut)
    sources = cut.test.texts
    flipped = [
        next(n for n in model.config.label_names if n != label) for label in cut.test.labels
    ]
    pool: dict[str, list[str]] = {name: [] for name in model.config.label_names}
    for text, label in zip(cut.train.texts, cut.train.labels, strict=True):
        pool[label].append(text)
    draws = np.random.default_rng(0)
    random = [pool[label][draws.integers(len(pool[label]))] for label in flipped]
    record: dict[str, Any] = {
        "minutes": minutes,
        "texts": [len(part) for part in cut],
        "judge": share((judge.predict(sources) == np.array(cut.test.labels)).tolist()),
        "source": figures(sources, sources, flipped, judge, other),
        "random": figures(sources, random, flipped, judge, other),
        "curve": [],
    }
    for guidance in GUIDANCE:
        texts = transfer(model, sources, flipped, guidance)
        record["curve"].append(
            {"guidance": guidance} | figures(sources, texts, flipped, judge, other)
        )
        print(record["curve"][-1], flush=True)
        for source, text in zip(sources[:3], texts[:3], strict=True):
            print(f"    {source} → {text}")
    (RUNS / f"{name}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def picture(found: dict[str, Any], path: Path) -> None:
    """Transfer against content kept, a point for every guidance."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(4.6 * len(found), 4), squeeze=False, sharex=True, sharey=True
    )
    for panel, (name, record) in zip(axes[0], found.items(), strict=True):
        across = [100 * point["transferred"]["value"] for point in record["curve"]]
        up = [point["self_bleu"] for point in record["curve"]]
        panel.plot(across, up, "o-")
        for point, x, y in zip(record["curve"], across, up, strict=True):
            panel.annotate(f" {point['guidance']:g}", (x, y), fontsize=8)
        panel.axvline(80, color="grey", linewidth=0.6)
        panel.axhline(20, color="grey", linewidth=0.6)
        panel.set(
            title=f"{name}, at guidance γ", xlabel="other style, %", ylabel="BLEU to the source"
        )
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    quiet()
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:]:
        measure(name)
    there = {name: RUNS / f"{name}.json" for name in OWN}
    found = {name: json.loads(p.read_text()) for name, p in there.items() if p.is_file()}
    if found:
        write("style", found | {"own": OWN, "judge_epochs": JUDGE_EPOCHS})
        picture(found, RESULTS / "style.png")


if __name__ == "__main__":
    main()
