"""Control codes on labelled corpora: are they recognised, are they obeyed, and at what price?

For each corpus one language model is trained from scratch under its labels as codes (recipe ctrl,
with the changes in MODEL), a tenth of the texts held out. Its judges are a TF-IDF classifier
trained on the same real texts (the baseline for attribution, the judge of generated texts) and a
separate LSTM language model without codes (perplexity of the generated texts). Every run is kept
in runs/control. A row whose run is not there stays as it was written; every row has its own
settings and date.

    python benchmarks/control.py trec pros_cons misc_domains yelp   # ≤ 15 minutes each on one core
    python benchmarks/control.py                                    # results from kept runs
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import common
from common import DATA, keep, kept, plus_minus, seconds_of, settings_of, share, table, trained
from isthmus.bench.measure import circumstances
from isthmus.commands.common import quiet
from isthmus.data.corpus import TextCorpus, read
from isthmus.data.kind import Splits
from isthmus.data.labelled import split_label
from isthmus.evaluation.attribution import attribute, code_prior
from isthmus.evaluation.calibration import calibrated_error, expected_calibration_error, posterior
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.text import distinct
from isthmus.explore.walks import decode_as, unwritten
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.settings import Settings

RUNS = common.RUNS / "control"
GUIDANCE = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (2.0, 0.9), (3.0, 0.9))
"""γ, and the nucleus of the code's own distribution that restricts guided tokens."""
GENERATED = 600
"""Texts under each strength of guidance, equally many of each code."""
VALIDATION = 1000

MODEL: dict[str, Any] = {
    "data": {"maximum_length": 48},
    "train": {"tokens_per_batch": 1024},
}
JUDGE: dict[str, Any] = {
    "model": {"kind": "language-model", "decoder": {"hidden_size": 192, "dropout": 0.3}},
    "data": {"word_dropout": 0.0, "maximum_length": 48},
}
"""Changes to the recipe lstm-vae for the model that measures perplexity."""

JUDGE_EPOCHS = {"trec": 15.0, "pros_cons": 5.0, "yelp": 1.5, "misc_domains": 1.5}

OWN: dict[str, dict[str, Any]] = {
    # A vocabulary of which some training texts lack a word: p(unknown word|code) is learned too.
    "trec": {"model": {"rivals": 5}, "train": {"epochs": 15.0}, "data": {"vocabulary_size": 4000}},
    # The same without the discriminative term: p(x|c) alone.
    "trec-generative": {
        "model": {"rivals": 0},
        "train": {"epochs": 15.0},
        "data": {"vocabulary_size": 4000},
    },
    "pros_cons": {},
    "yelp": {"train": {"epochs": 3.0}},
    # Full of names: with 10,000 words 14 % of its tokens would be unknown.
    "misc_domains": {"train": {"epochs": 1.5}, "data": {"vocabulary_size": 25_000}},
}


class Task(NamedTuple):
    """A corpus split in three."""

    @property
    def splits(self) -> Splits:
        return Splits(self.train, self.valid, None, {})

    train: TextCorpus
    valid: TextCorpus
    test: TextCorpus


def task(name: str) -> Task:
    """A tenth for testing, at most a thousand texts for validation.

    In lower case, as the baseline folds it as well.
    """
    corpus = read(str(DATA / name), split="train")
    labels = [split_label(label, ":")[0] for label in corpus.labels]
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(corpus)).tolist()
    tenth = len(order) // 10
    valid = min(VALIDATION, tenth)

    def part(rows: Sequence[int], of: str) -> TextCorpus:
        texts = [corpus.texts[row].lower() for row in rows]
        return TextCorpus(texts, [labels[row] for row in rows], f"{name} ({of})")

    return Task(
        part(order[tenth + valid :], "train"),
        part(order[tenth : tenth + valid], "valid"),
        part(order[:tenth], "test"),
    )


def classifier(cut: Task) -> Any:
    """The baseline of the data's README: TF-IDF of one and two words, a logistic classifier."""
    judge = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
        LogisticRegression(C=10, max_iter=1000),
    )
    return judge.fit(cut.train.texts, cut.train.labels)


def attribution(model: LatentModel, cut: Task, judge: Any) -> dict[str, Any]:
    """Attribution of the test texts, with the baseline on the same texts."""
    found = attribute(model, cut.test.texts, "stored")
    truth = torch.tensor([found.names.index(label) for label in cut.test.labels])
    even = posterior(found.log_likelihood, code_prior(model, "uniform"))
    error = expected_calibration_error(found.log_posterior, truth)
    return {
        "accuracy_stored_prior": share((found.log_posterior.argmax(-1) == truth).tolist()),
        "accuracy_uniform_prior": share((even.argmax(-1) == truth).tolist()),
        "tfidf": share((judge.predict(cut.test.texts) == np.array(cut.test.labels)).tolist()),
        "calibration_error": error.value,
        "calibration_error_if_perfect": calibrated_error(found.log_posterior).value,
        "nll": -found.log_marginal.mean().item(),
    }


def per_word(model: LatentModel, texts: list[str]) -> float:
    """Perplexity per word, including the end of text, under a language model without codes."""
    examples = model.codec.prepare(texts)
    words = sum(len(text.split()) + 1 for text in texts)
    return math.exp(bounds(model, examples, samples=1).nll_iw.sum().item() / words)


def generation(
    model: LatentModel,
    other: LatentModel,
    cut: Task,
    judge: Any,
    guidance: float,
    guidance_top_p: float,
) -> dict[str, Any]:
    """Texts under every code: is it obeyed, and at what cost?"""
    names = model.config.label_names
    wanted = [name for name in names for _ in range(GENERATED // len(names))]
    settings = Generation(
        max_new_tokens=40,
        sample=True,
        top_p=0.9,
        guidance=guidance,
        guidance_top_p=guidance_top_p,
        banned=unwritten(model),
    )
    texts = decode_as(model, torch.zeros(len(wanted), 0), wanted, settings)
    return {
        "guidance": guidance,
        "guidance_top_p": guidance_top_p,
        "obeyed": share((judge.predict(texts) == np.array(wanted)).tolist()),
        "perplexity": per_word(other, texts),
        "distinct_1": distinct(texts, 1).value,
        "distinct_2": distinct(texts, 2).value,
        "words": sum(len(text.split()) for text in texts) / len(texts),
    }


def judge_model(out: Path, train: dict[str, Any], corpus: Task) -> LatentModel:
    """The language model without codes that measures perplexity."""
    return trained(out, settings_of("lstm-vae", JUDGE, {"train": train}), corpus.splits)


def measure(name: str) -> None:
    """Train, judge, save."""
    data = name.partition("-")[0]
    cut = task(data)
    judge = classifier(cut)
    settings: Settings = settings_of("ctrl", MODEL, OWN[name])
    model = trained(RUNS / name, settings, cut.splits)
    other = judge_model(RUNS / f"{data}-judge", {"epochs": JUDGE_EPOCHS[data]}, cut)
    seconds = seconds_of(RUNS / name)
    real = {
        "perplexity": per_word(other, cut.test.texts[:GENERATED]),
        "distinct_1": distinct(cut.test.texts[:GENERATED], 1).value,
        "distinct_2": distinct(cut.test.texts[:GENERATED], 2).value,
    }
    record = {
        "circumstances": circumstances(),
        "settings": dataclasses.asdict(settings),
        "minutes": seconds["wall_seconds"] / 60,
        "processor_minutes": seconds["processor_seconds"] / 60,
        "texts": [len(part) for part in cut],
        "codes": len(model.config.label_names),
        "attribution": attribution(model, cut, judge),
        "real": real,
        "generated": [generation(model, other, cut, judge, *each) for each in GUIDANCE],
    }
    keep(record, RUNS / f"{name}.json")


def cell(figure: dict[str, Any]) -> str:
    """A fraction in per cent with its standard error."""
    return plus_minus(100 * figure["value"], 100 * figure["se"], 1)


def attributed(found: dict[str, Any]) -> list[str]:
    """The table of attribution."""
    head = ("corpus", "decoder", "codes", "texts", "p(c) of the data", "uniform p(c)", "TF-IDF")
    rows = []
    for name, record in found.items():
        own = record["attribution"]
        error, perfect = own["calibration_error"], own["calibration_error_if_perfect"]
        rows.append(
            (
                *(name, record["settings"]["model"]["decoder"]["architecture"], record["codes"]),
                f"{own['tfidf']['n']:,}",
                cell(own["accuracy_stored_prior"]),
                cell(own["accuracy_uniform_prior"]),
                cell(own["tfidf"]),
                f"{error:.3f} ({perfect:.3f})",
                f"{record['minutes']:.1f}",
                f"{record['processor_minutes']:.1f}",
            )
        )
    more = ("ECE (if perfect)", "minutes", "processor minutes")
    return ["**Attribution of a held-out tenth**, % right", "", *table([*head, *more], rows)]


def obeyed(found: dict[str, Any]) -> list[str]:
    """The table of generated texts."""
    head = ("corpus", "γ", "within", "obeyed", "perplexity", "distinct-1", "distinct-2")
    rows = []
    for name, record in found.items():
        real = record["real"] | {"obeyed": record["attribution"]["tfidf"]}
        rows.append((name, "real texts", "", *figures(real)))
        rows += [
            ("", f"{each['guidance']:g}", f"{each['guidance_top_p']:g}", *figures(each))
            for each in record["generated"]
        ]
    return [
        "**Texts under each code**, nucleus 0.9, guidance γ away from the null code: % that a"
        " TF-IDF classifier trained on the real texts assigns to the code; perplexity per word"
        " under an LSTM language model without codes; shares of different words and word pairs."
        " Within: guidance restricted to this nucleus of the code's own distribution",
        "",
        *table(head, rows),
    ]


def figures(row: dict[str, Any]) -> tuple[str, ...]:
    """Cells of one strength of guidance."""
    distinct = (f"{row[key]:.2f}" for key in ("distinct_1", "distinct_2"))
    return cell(row["obeyed"]), f"{row['perplexity']:.0f}", *distinct


def main() -> None:
    quiet()
    for name in sys.argv[1:]:
        measure(name)
    rows = common.read("control") or {}
    rows |= {name: record for name in OWN if (record := kept(RUNS / f"{name}.json"))}
    found = {name: rows[name] for name in OWN if name in rows}
    text = "\n".join([*attributed(found), "", *obeyed(found)]) + "\n"
    common.write("control", found | {"judge": JUDGE, "judge_epochs": JUDGE_EPOCHS}, text)


if __name__ == "__main__":
    main()
