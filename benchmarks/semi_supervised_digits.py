"""Fifty labels and a thousand unlabelled digits: a joint VAE and its own encoder alone.

scikit-learn's 1,797 digits in a fixed order: 1,097 for training, 5 of each class labelled, 200 for
tuning (on other seeds), 500 for testing, used once at the end. A seed decides which are labelled,
the weights and the batches, for all methods alike, so they are compared pair by pair.

    joint   the recipe picture-labels: p(x|z) p(y|z), entropy and balance of unlabelled pictures
    paper   the same with the terms of the bound alone (Pu et al. 2016): no entropy, no balance
    svm     as joint, with the Bayesian SVM for p(y|z)
    alone   the same encoder and head by cross-entropy on the 50, as many steps, no decoder
    heads   Polson & Scott's EM and scikit-learn's LinearSVC on the same features

    python benchmarks/semi_supervised_digits.py joint 20   # one run, 15 seconds of one core
    python benchmarks/semi_supervised_digits.py all        # every run that is missing
    python benchmarks/semi_supervised_digits.py            # the result files from kept runs
"""

from __future__ import annotations

import dataclasses
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.svm import LinearSVC
from transformers import set_seed

import common
from common import all_kept, fitted, once, one_thread, plus_minus, table, write
from isthmus.data import pictures
from isthmus.data.labelled import observed_labels
from isthmus.data.pictures import PictureCorpus
from isthmus.evaluation.labels import accuracy
from isthmus.models.build import build
from isthmus.models.pictures.label_heads import PRECISION, BayesianSVMHead
from isthmus.models.pictures.model import PictureModel
from isthmus.settings import Settings

RUNS = common.RUNS / "semi_supervised_digits"
SEEDS = range(20, 25)
"""Different from those that the recipe was tuned on."""
LABELLED = 50
RATE, DECAY = 2e-3, 1.0
"""Learning rate and weight decay of the encoder alone, tuned on the same other seeds."""
CHANGES: dict[str, dict[str, Any]] = {
    "joint": {},
    "paper": {"objective": {"uncertainty": 0.0, "balance": 0.0}},
    "svm": {"model": {"picture": {"label_head": "svm"}}, "objective": {"classification": 200.0}},
    "alone": {},
}
METHODS = (*CHANGES, "heads")


def parts() -> tuple[PictureCorpus, PictureCorpus]:
    """Pictures for training and testing; those between them were for tuning."""
    splits = [pictures.read("digits", split=split) for split in ("train", "valid", "test")]
    whole = dataclasses.replace(
        splits[0],
        examples=np.concatenate([part.examples for part in splits]),
        labels=[label for part in splits for label in part.labels],
        names=[name for part in splits for name in part.names],
    )
    return whole.part(slice(0, 1097)), whole.part(slice(1297, 1797))


def settings_of(method: str, seed: int) -> Settings:
    run = {"data": {"labelled": LABELLED}, "train": {"seed": seed, "evaluations": 1}}
    return common.settings_of("picture-labels", run, CHANGES[method])


def joint(settings: Settings, train: PictureCorpus, labels: list[str | None]) -> PictureModel:
    """The recipe, by the trainer."""
    model = build(settings, train.examples, labels)
    seen = model.codec.prepare_training(train.examples, labels)
    found: PictureModel = fitted(model, settings, seen, model.codec.prepare(train.examples[:64]))
    return found


def steps_of(settings: Settings, train: PictureCorpus) -> int:
    return int(settings.train.epochs * -(-len(train) // settings.train.sentences_per_batch))


def alone(settings: Settings, train: PictureCorpus, labels: list[str | None]) -> PictureModel:
    """Cross-entropy of all labelled pictures in one batch; z is the mean, without noise."""
    model = build(settings, train.examples, labels)
    rows = [row for row, label in enumerate(labels) if label is not None]
    labelled = model.codec.prepare(train.examples[rows], [labels[row] for row in rows])
    batch = labelled.collate(range(len(rows)))
    weights = [*model.encoder.parameters(), *model.labels.parameters()]
    optimiser = torch.optim.AdamW(weights, RATE, weight_decay=DECAY)
    steps = steps_of(settings, train)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    set_seed(settings.train.seed)
    for _ in range(steps):
        z = model.posterior(batch).mean.unsqueeze(0)
        model.labels.losses(z, batch["labels"]).mean().backward()
        optimiser.step()
        decay.step()
        optimiser.zero_grad(set_to_none=True)
    return model.eval()


@torch.no_grad()
def judge(model: PictureModel, method: str, test: PictureCorpus) -> float:
    """Accuracy of p(y|z) averaged over draws, or at the mean if training had no draws."""
    if method == "alone":
        found = model.labels.predict(model.encode(test.examples).mean.unsqueeze(0))
    else:
        found = model.classify(test.examples)
    return accuracy(found, model.config.label_names, test.labels).value


def heads(seed: int, train: PictureCorpus, test: PictureCorpus) -> list[dict[str, Any]]:
    """The SVM by EM and by liblinear, on grey values and on latents, few labels and many."""
    some = observed_labels(train, LABELLED, seed)
    settings = settings_of("joint", seed)
    labelled = [row for row, label in enumerate(some) if label is not None]
    half = np.random.default_rng(seed).permutation(len(train))[:500].tolist()
    model = joint(settings, train, some)
    features = {
        "grey values": [part.examples.reshape(len(part), -1) / 255 for part in (train, test)],
        "latent means": [model.encode(part.examples).mean.numpy() for part in (train, test)],
    }
    return [
        {"features": name, **solvers(seen[rows], unseen, [train.labels[r] for r in rows], test)}
        for name, (seen, unseen) in features.items()
        for rows in (labelled, half)
    ]


def solvers(
    seen: np.ndarray, unseen: np.ndarray, labels: list[str], test: PictureCorpus
) -> dict[str, Any]:
    """Accuracy of three linear SVMs, and the course of the bound."""
    classes, truth = np.array(labels).astype(int), np.array(test.labels).astype(int)
    head = BayesianSVMHead(seen.shape[1], 10)
    bound = head.fit(torch.from_numpy(seen), torch.from_numpy(classes), steps=1000)
    scores = head.scores(torch.from_numpy(unseen).float())
    ours = scores.argmax(-1).numpy()
    record = {"labels": len(labels), "bayesian_svm": float((ours == truth).mean())}
    for name, loss in (("hinge", "hinge"), ("default", "squared_hinge")):
        other = LinearSVC(C=2 / PRECISION, loss=loss, max_iter=500_000, random_state=0)
        theirs = other.fit(seen, classes).predict(unseen)
        record[f"linear_svc_{name}"] = float((theirs == truth).mean())
        record[f"same_decisions_{name}"] = float((theirs == ours).mean())
    rises = np.diff(bound)
    return record | {"steps": len(bound) - 1, "largest_rise_of_the_bound": float(rises.max())}


def measure(method: str, seed: int) -> dict[str, Any]:
    """Processor time and test accuracy of one run."""
    train, test = parts()
    since = time.process_time()
    record: dict[str, Any] = {"method": method, "seed": seed}
    if method == "heads":
        record["rows"] = heads(seed, train, test)
    else:
        settings = settings_of(method, seed)
        labels = observed_labels(train, LABELLED, seed)
        model = (alone if method == "alone" else joint)(settings, train, labels)
        record["accuracy"] = judge(model, method, test)
    return record | {"processor_seconds": round(time.process_time() - since, 1)}


def shown(values: np.ndarray) -> str:
    """Mean ± standard error in points."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return plus_minus(100 * values.mean(), 100 * error, 1)


NAMES = {
    "joint": "joint VAE, softmax, entropy and balance of unlabelled pictures",
    "svm": "joint VAE, Bayesian SVM, entropy and balance of unlabelled pictures",
    "paper": "joint VAE, softmax, terms of the bound alone",
    "alone": "the same encoder alone (CNN), 50 labels",
}


def tables(found: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Markdown: accuracy over seeds, paired differences, and the two solvers of the SVM."""
    seeds = [seed for seed in SEEDS if all((method, seed) in found for method in METHODS)]
    ours = {m: np.array([found[m, seed]["accuracy"] for seed in seeds]) for m in NAMES}
    methods = [(name, shown(ours[m]), shown(ours[m] - ours["alone"])) for m, name in NAMES.items()]
    lines = [
        f"{LABELLED} labels, 5 per class, 1,097 pictures; accuracy in points on 500 unseen "
        f"digits, mean ± standard error over {len(seeds)} seeds.",
        "",
        *table(["method", "accuracy", "minus the CNN, paired"], methods),
        "",
        "The Bayesian SVM by EM and LinearSVC on the same features, C = 1.",
        "",
    ]
    solved = []
    for place, row in enumerate(found["heads", seeds[0]]["rows"]):
        rows = [found["heads", seed]["rows"][place] for seed in seeds]
        bayesian, hinge, default = (
            np.array([row[key] for row in rows])
            for key in ("bayesian_svm", "linear_svc_hinge", "linear_svc_default")
        )
        rise = max(row["largest_rise_of_the_bound"] for row in rows)
        cells = [shown(bayesian), shown(hinge), shown(bayesian - hinge), shown(default)]
        cells += [shown(bayesian - default), "none" if rise <= 0 else f"{rise:.1e}"]
        solved.append([f"{row['features']}, {row['labels']}", *cells])
    head = ("features, labels", "Bayesian SVM", "LinearSVC, hinge", "difference")
    more = ("LinearSVC, default", "difference", "largest rise of the bound, nats")
    return "\n".join([*lines, *table([*head, *more], solved)]) + "\n"


def main() -> None:
    one_thread()
    words = sys.argv[1:]
    if len(words) == 2:
        once(RUNS / f"{words[0]}-{words[1]}.json", partial(measure, words[0], int(words[1])))
        return
    if words == ["all"]:
        for seed in SEEDS:
            for method in METHODS:
                once(RUNS / f"{method}-{seed}.json", partial(measure, method, seed))
    records = all_kept(RUNS)
    found = {(record["method"], record["seed"]): record for record in records}
    write("semi_supervised_digits", {"labelled": LABELLED, "runs": records}, tables(found))


if __name__ == "__main__":
    main()
