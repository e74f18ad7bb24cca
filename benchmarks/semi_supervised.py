"""A hundred labels and many unlabelled texts: a semi-supervised VAE and its own classifier.

"semi" is the recipe scnn-vae-semi; "alone" is the same encoder and classifier with the same
vocabulary, trained by cross-entropy on the hundred labelled texts and nothing else. A seed decides
which texts are labelled, the weights and the batches, for both alike, so the two are compared pair
by pair. Test texts are used once, at the end; everything was tuned on other seeds and on
validation texts. Every result is kept in runs/semi_supervised.

    python benchmarks/semi_supervised.py agnews yelp   # about half an hour on one core
    python benchmarks/semi_supervised.py               # the result files from kept runs
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import set_seed

import common
from common import DATA, all_kept, fitted, once, one_thread, plus_minus, settings_of, write
from common import table as markdown
from isthmus.data.corpus import TextCorpus, read
from isthmus.data.labelled import observed_labels
from isthmus.evaluation.labels import accuracy, label_information, leakage
from isthmus.models.base import evaluating, over_batches
from isthmus.models.build import build
from isthmus.models.optimus import OptimusModel
from isthmus.settings import Settings

RUNS = common.RUNS / "semi_supervised"
SEEDS = range(10, 15)
"""Different from those that the recipe was tuned on."""
LABELLED = 100
AG_NAMES = {"1": "world", "2": "sports", "3": "business", "4": "science"}


class Task(NamedTuple):
    """Texts with their true labels, split in three."""

    train: TextCorpus
    valid: TextCorpus
    test: TextCorpus


def part(
    texts: Sequence[str], labels: Sequence[str], rows: Sequence[int], name: str
) -> TextCorpus:
    return TextCorpus([texts[row] for row in rows], [labels[row] for row in rows], name)


def agnews() -> Task:
    """3,800 news in lower case, marks as words: 2,300 for training, 1,200 for testing."""
    corpus = read(str(DATA / "agnews" / "half.csv.gz"))
    texts = [" ".join(re.findall(r"[a-z]+|\d+|[^\w\s]", text.lower())) for text in corpus.texts]
    labels = [AG_NAMES[label] for label in corpus.labels]
    rows = np.random.default_rng(0).permutation(len(texts)).tolist()
    parts = {"train": rows[:2300], "valid": rows[2300:2600], "test": rows[2600:]}
    return Task(*(part(texts, labels, chosen, name) for name, chosen in parts.items()))


def yelp() -> Task:
    """12,000 short sentences for training, 2,000 for testing."""
    sizes = {"train": 12_000, "valid": 500, "test": 2_000}
    parts = []
    for split, size in sizes.items():
        corpus = read(str(DATA / "yelp"), split=split)
        rows = np.random.default_rng(0).permutation(len(corpus))[:size].tolist()
        names = ["positive" if label == "1" else "negative" for label in corpus.labels]
        parts.append(part(corpus.texts, names, rows, f"yelp/{split}"))
    return Task(*parts)


TASKS: dict[str, Callable[[], Task]] = {"agnews": agnews, "yelp": yelp}
EPOCHS = {"agnews": 12, "yelp": 6}
LABEL_NATS = {"agnews": 1.0, "yelp": 0.5}
"""0.72 ln C, for four labels and for two."""
STEPS_ALONE = 200


def judge(model: OptimusModel, corpus: TextCorpus) -> dict[str, Any]:
    """Accuracy of q(y|x), use of y, and how well z predicts the label."""
    examples = model.codec.prepare(corpus.texts)
    with evaluating(model), torch.no_grad():
        log_q = over_batches(model, examples, model.label_posterior)
        mean = model.encode(corpus.texts).mean
    left = leakage(mean, corpus.labels)
    return {
        "accuracy": accuracy(log_q, model.config.label_names, corpus.labels).value,
        "label_information": label_information(log_q).value,
        "label_leakage": None if left is None else left.value,
    }


def semi(task: Task, settings: Settings, labels: list[str | None]) -> OptimusModel:
    """The recipe, by the trainer."""
    model = build(settings, task.train.texts, labels)
    train = model.codec.prepare(task.train.texts, labels)
    found: OptimusModel = fitted(
        model, settings, train, model.codec.prepare(task.valid.texts[:64])
    )
    return found


def alone(task: Task, settings: Settings, labels: list[str | None]) -> OptimusModel:
    """Cross-entropy on the labelled texts, without the decoder."""
    model = build(settings, task.train.texts, labels)
    rows = [row for row, label in enumerate(labels) if label is not None]
    labelled = model.codec.prepare(
        [task.train.texts[row] for row in rows], [labels[row] for row in rows]
    )
    parts = [*model.encoder.parameters(), *model.labels.parameters()]
    optimiser = torch.optim.AdamW(parts, settings.train.learning_rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS_ALONE)
    set_seed(settings.train.seed)
    model.train()
    for _ in range(STEPS_ALONE):
        chosen = torch.randperm(len(rows))[: settings.train.sentences_per_batch].tolist()
        batch = labelled.collate(chosen)
        log_q = model.label_posterior(batch)
        model.labels.terms(log_q, batch["labels"])["classification"].mean().backward()
        torch.nn.utils.clip_grad_norm_(parts, settings.train.clip)
        optimiser.step()
        decay.step()
        optimiser.zero_grad(set_to_none=True)
    return model.eval()


METHODS = {"semi": semi, "alone": alone}


def words_alone(task: Task, labels: list[str | None]) -> float:
    """A ruler: TF-IDF of one and two words, a logistic classifier, the same labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(task.train.texts)
    rows = [row for row, label in enumerate(labels) if label is not None]
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(
        vectors.transform([task.train.texts[row] for row in rows]), [labels[r] for r in rows]
    )
    return float(model.score(vectors.transform(task.test.texts), task.test.labels))


def measure(name: str, method: str, seed: int) -> dict[str, Any]:
    """Processor time and test accuracy of one run."""
    task = TASKS[name]()
    changes = {
        "data": {"labelled": LABELLED},
        "objective": {"label_nats": LABEL_NATS[name]},
        "train": {"seed": seed, "epochs": float(EPOCHS[name]), "evaluations": 1},
    }
    settings = settings_of("scnn-vae-semi", changes)
    labels = observed_labels(task.train, LABELLED, seed)
    since = time.process_time()
    model = METHODS[method](task, settings, labels)
    record = {"task": name, "method": method, "seed": seed}
    record["processor_seconds"] = round(time.process_time() - since, 1)
    record |= judge(model, task.test)
    if method == "alone":
        record["tfidf_accuracy"] = words_alone(task, labels)
    return record


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: mean accuracy over seeds, and the paired difference."""
    found = []
    for task, pairs in rows.items():
        columns = np.array([[p["semi"], p["alone"], p["semi"] - p["alone"]] for p in pairs])
        columns = np.column_stack([columns, [p["tfidf"] for p in pairs]])
        errors = columns.std(0, ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.zeros(4)
        cells = [plus_minus(*each) for each in zip(columns.mean(0), errors, strict=True)]
        found.append([task, len(pairs), *cells])
    title = f"{LABELLED} labels; accuracy on test texts, mean ± standard error over seeds."
    head = ("task", "seeds", "semi-supervised VAE", "its classifier, labels alone")
    more = ("difference, paired", "TF-IDF, the same labels")
    return "\n".join([title, "", *markdown([*head, *more], found)]) + "\n"


def main() -> None:
    one_thread()
    for name in sys.argv[1:]:
        for seed in SEEDS:
            for method in METHODS:
                once(RUNS / f"{name}-{method}-{seed}.json", partial(measure, name, method, seed))
    records = all_kept(RUNS)
    found = {(r["task"], r["method"], r["seed"]): r for r in records}
    rows: dict[str, list[dict[str, Any]]] = {}
    for task, method, seed in found:
        if method == "semi" and (task, "alone", seed) in found:
            other = found[task, "alone", seed]
            pair = {"seed": seed, "semi": found[task, "semi", seed]["accuracy"]}
            pair |= {"alone": other["accuracy"], "tfidf": other["tfidf_accuracy"]}
            rows.setdefault(task, []).append(pair)
    figures = {"labelled": LABELLED, "rows": rows, "runs": records}
    write("semi_supervised", figures, table(rows))


if __name__ == "__main__":
    main()
