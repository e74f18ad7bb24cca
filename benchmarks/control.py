"""Control codes on labelled corpora: are they known again, are they obeyed, and at what price?

For each corpus one language model from scratch under its labels as codes (recipe ctrl, with the
changes in MODEL), a tenth of the texts held out. Judged by others: a TF-IDF classifier trained on
the same real texts (for attribution the ruler, for generated texts the judge) and a separate LSTM
language model without codes (perplexity of the generated texts). Every run is written to
runs/control and not done again. A row whose run is not there stays as it was written; every row
tells its settings and its day.

    python benchmarks/control.py trec pros_cons misc_domains yelp   # ≤ 15 minutes each on one core
    python benchmarks/control.py                                    # results from what is there
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from common import DATA, RESULTS, write
from common import read as read_result
from isthmus.bench.measure import circumstances
from isthmus.commands.common import quiet
from isthmus.data.corpus import Corpus, Splits, read
from isthmus.data.labelled import split_label
from isthmus.evaluation.attribution import attribute, code_prior
from isthmus.evaluation.calibration import calibrated_error, expected_calibration_error, posterior
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.text import distinct
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import decode_as, unwritten
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.progress import console
from isthmus.runs import bundle
from isthmus.settings import load_recipe, merged, with_changes
from isthmus.training import train

RUNS = Path("runs/control")
GUIDANCE = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (2.0, 0.9), (3.0, 0.9))
"""γ, and the nucleus of the code's own distribution that guided tokens are kept to."""
GENERATED = 600
"""Texts under each strength of guidance, as many of each code."""
VALIDATION = 1000

MODEL: dict[str, Any] = {
    "data": {"maximum_length": 48},
    "train": {"tokens_per_batch": 1024},
}
JUDGE: dict[str, Any] = {
    "model": {"kind": "language-model", "decoder": {"hidden_size": 192, "dropout": 0.3}},
    "data": {"word_dropout": 0.0, "maximum_length": 48},
}
"""What differs from the recipe lstm-vae in the model that measures perplexity."""

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
    # Full of names: 10,000 words would leave 14 % of its tokens unknown.
    "misc_domains": {"train": {"epochs": 1.5}, "data": {"vocabulary_size": 25_000}},
}


class Task(NamedTuple):
    """A corpus cut in three."""

    train: Corpus
    valid: Corpus
    test: Corpus


def task(name: str) -> Task:
    """A tenth held out to judge by, a thousand texts or less to choose weights by.

    In lower case: the ruler folds it as well.
    """
    corpus = read(str(DATA / name), split="train")
    labels = [split_label(label, ":")[0] for label in corpus.labels]
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(corpus)).tolist()
    tenth = len(order) // 10
    valid = min(VALIDATION, tenth)

    def part(rows: Sequence[int], of: str) -> Corpus:
        texts = [corpus.texts[row].lower() for row in rows]
        return Corpus(texts, [labels[row] for row in rows], f"{name} ({of})")

    return Task(
        part(order[tenth + valid :], "train"),
        part(order[tenth : tenth + valid], "valid"),
        part(order[:tenth], "test"),
    )


def trained(name: str, settings: Any, cut: Task) -> tuple[LatentModel, dict[str, float]]:
    """The run of that name, made or loaded, and the minutes it took."""
    out = RUNS / name
    if not (out / bundle.RUN_FILE).is_file():
        start, busy = time.perf_counter(), time.process_time()
        splits = Splits(cut.train, cut.valid, None, {})
        train(settings, splits, out, resume=(out / "settings.json").is_file(), console=console())
        spent = {
            "minutes": (time.perf_counter() - start) / 60,
            "processor_minutes": (time.process_time() - busy) / 60,
        }
        (out / "spent.json").write_text(json.dumps(spent))
    return bundle.load(out), json.loads((out / "spent.json").read_text())


def classifier(cut: Task) -> Any:
    """The ruler of the data's README: TF-IDF of one and two words, a logistic classifier."""
    judge = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
        LogisticRegression(C=10, max_iter=1000),
    )
    return judge.fit(cut.train.texts, cut.train.labels)


def share(hits: Sequence[bool]) -> dict[str, float | int | None]:
    """A fraction with its standard error."""
    estimate = Estimate.mean_of(torch.tensor(hits).double())
    return {"value": estimate.value, "se": estimate.standard_error, "n": estimate.count}


def attribution(model: LatentModel, cut: Task, judge: Any) -> dict[str, Any]:
    """The test texts: whose are they? Beside the ruler on the same texts."""
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
    """Perplexity per word, end of text counted, under a language model without codes."""
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
    """Texts under every code: is it obeyed, and what does that cost?"""
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


def measure(name: str) -> None:
    """Train, judge, write down."""
    out = RUNS / f"{name}.json"
    data = name.partition("-")[0]
    cut = task(data)
    judge = classifier(cut)
    settings = with_changes(load_recipe("ctrl"), merged(MODEL, OWN[name]), name)
    model, spent = trained(name, settings, cut)
    changes = merged(JUDGE, {"train": {"epochs": JUDGE_EPOCHS[data]}})
    plain = with_changes(load_recipe("lstm-vae"), changes, "judge")
    other, _ = trained(f"{data}-judge", plain, cut)
    real = {
        "perplexity": per_word(other, cut.test.texts[:GENERATED]),
        "distinct_1": distinct(cut.test.texts[:GENERATED], 1).value,
        "distinct_2": distinct(cut.test.texts[:GENERATED], 2).value,
    }
    record = {
        "circumstances": circumstances(),
        "settings": dataclasses.asdict(settings),
        **spent,
        "texts": [len(part) for part in cut],
        "codes": len(model.config.label_names),
        "attribution": attribution(model, cut, judge),
        "real": real,
        "generated": [generation(model, other, cut, judge, *each) for each in GUIDANCE],
    }
    out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(json.dumps(record, indent=1))


def cell(figure: dict[str, Any]) -> str:
    """A fraction in per cent with its standard error."""
    return f"{100 * figure['value']:.1f} ± {100 * figure['se']:.1f}"


def attributed(found: dict[str, Any]) -> list[str]:
    """The first table: who wrote it?"""
    lines = [
        "**Attribution of a held-out tenth**, % right",
        "",
        "| corpus | decoder | codes | texts | p(c) of the data | uniform p(c) | TF-IDF |"
        " ECE (if perfect) | minutes | processor minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, record in found.items():
        told = record["attribution"]
        lines.append(
            f"| {name} | {record['settings']['model']['decoder']['architecture']} | "
            f"{record['codes']} | {told['tfidf']['n']:,} | "
            f"{cell(told['accuracy_stored_prior'])} | {cell(told['accuracy_uniform_prior'])} | "
            f"{cell(told['tfidf'])} | {told['calibration_error']:.3f} "
            f"({told['calibration_error_if_perfect']:.3f}) | {record['minutes']:.1f} | "
            f"{record['processor_minutes']:.1f} |"
        )
    return lines


def obeyed(found: dict[str, Any]) -> list[str]:
    """The second table: is the code obeyed, and what does that cost?"""
    lines = [
        "**Texts under each code**, nucleus 0.9, guidance γ away from the null code: % that a"
        " TF-IDF classifier trained on the real texts takes for the code's; perplexity per word"
        " under an LSTM language model without codes; shares of different words and word pairs."
        " Within: guidance kept to this nucleus of the code's own distribution",
        "",
        "| corpus | γ | within | obeyed | perplexity | distinct-1 | distinct-2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, record in found.items():
        real = record["real"]
        lines.append(
            f"| {name} | real texts | | {cell(record['attribution']['tfidf'])} | "
            f"{real['perplexity']:.0f} | {real['distinct_1']:.2f} | {real['distinct_2']:.2f} |"
        )
        lines += [
            f"| | {each['guidance']:g} | {each['guidance_top_p']:g} | "
            f"{cell(each['obeyed'])} | {each['perplexity']:.0f} | "
            f"{each['distinct_1']:.2f} | {each['distinct_2']:.2f} |"
            for each in record["generated"]
        ]
    return lines


def main() -> None:
    quiet()
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:]:
        measure(name)
    rows = read_result("control") or {}
    there = {name: RUNS / f"{name}.json" for name in OWN}
    rows |= {name: json.loads(path.read_text()) for name, path in there.items() if path.is_file()}
    found = {name: rows[name] for name in OWN if name in rows}
    write("control", found | {"judge": JUDGE, "judge_epochs": JUDGE_EPOCHS})
    text = "\n".join([*attributed(found), "", *obeyed(found)]) + "\n"
    (RESULTS / "control.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
