"""Topics without labels: clusters of TF-IDF, of MiniLM, and of the latents of a VAE on MiniLM.

The VAE of clustering.toml reads texts with MiniLM, which stays frozen, and reconstructs them with
a small decoder; its mixture prior has as many components as there are classes. Its posterior means
are clustered by k-means, by a full mixture, and by the most probable component of the prior.
Labels serve only for the scores. The settings were chosen by the scores on DEVELOPMENT and not
changed for the other corpora; docs/log.md has what else was tried. Errors are over five starts of
the clustering for baselines, and over three trainings for the VAE.

MiniLM's pooled states are computed once and kept in runs/clustering. Four things go beyond a
recipe: the states are normalised to length 1, as MiniLM is meant to be used, and centred, and a
lookup of them replaces the encoder; head, prior and decoder have different learning rates; the
head of the mean starts at the principal directions of the states, and the prior at k-means in
them. From a random start 500 steps are too few. Rows that the result file has are not measured
again.

    python benchmarks/clustering.py                  # all, a quarter of an hour on one core
    python benchmarks/clustering.py r8               # one corpus
    python benchmarks/clustering.py --table          # results/clustering.md from the result file
"""

from __future__ import annotations

import dataclasses
import gzip
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

import common
from common import BENCHMARKS, DATA, one_thread, plus_minus, read, write, write_text
from common import table as markdown
from isthmus.data.batches import BucketBatches
from isthmus.data.corpus import read as read_corpus
from isthmus.evaluation.clustering import cluster_scores, clustering_metrics
from isthmus.evaluation.plots import cluster_map
from isthmus.evaluation.usage import Estimate
from isthmus.explore.walks import Clustering, cluster, components
from isthmus.latent.objective import Terms
from isthmus.models.build import build
from isthmus.models.codec import TextExamples
from isthmus.models.optimus import OptimusModel
from isthmus.settings import Settings
from isthmus.training import make_objective

RUNS = common.RUNS / "clustering"
RECIPE = str(BENCHMARKS / "clustering.toml")
TRAININGS = 3
STARTS = 5
LAST = 100
HEAD_RATE, PRIOR_RATE = 1.0, 5.0
"""Learning rates of head and prior in units of the decoder's."""
SPREAD = 3.0
"""Initial standard deviation of the first dimension of the mean; that of the noise is 1."""
METRICS = {
    "accuracy": "accuracy",
    "normalized_mutual_information": "NMI",
    "adjusted_mutual_information": "AMI",
    "adjusted_rand_index": "ARI",
}


class Source(NamedTuple):
    """File of a corpus, its longest text in tokens, and the number of texts sampled (0 = all)."""

    file: str
    longest: int
    count: int = 0


DEVELOPMENT = {
    "misc_domains": Source("misc_domains/train.tsv.gz", 32, 4000),
    "agnews": Source("agnews/half.csv.gz", 64),
}
CORPORA = DEVELOPMENT | {
    "stackoverflow": Source("stackoverflow/all.tsv.gz", 32, 5000),
    "r8": Source("r8/train.tsv.gz", 64),
    "news20": Source("news20/train.jsonl.gz", 64, 4000),
}


class Labelled(NamedTuple):
    """Texts and classes of a corpus."""

    name: str
    texts: list[str]
    labels: list[str]

    @property
    def classes(self) -> int:
        return len(set(self.labels))


def labelled(name: str) -> Labelled:
    """A corpus, or a sample of its texts, in their order."""
    source = CORPORA[name]
    if name == "stackoverflow":  # one title contains a tab, which the package's reader refuses
        with gzip.open(DATA / source.file, "rt", encoding="utf-8") as lines:
            pairs = [line.rstrip("\n").split("\t", 1) for line in lines]
    else:
        corpus = read_corpus(str(DATA / source.file))
        pairs = list(zip(corpus.labels or [], corpus.texts, strict=True))
    order = np.random.default_rng(0).permutation(len(pairs))
    chosen = np.sort(order[: source.count or len(pairs)])
    labels, texts = zip(*(pairs[index] for index in chosen), strict=True)
    return Labelled(name, [text.replace("\t", " ") for text in texts], list(labels))


def settings_of(corpus: Labelled, seed: int) -> Settings:
    changes = {
        "model": {"prior_components": corpus.classes},
        "data": {"maximum_length": CORPORA[corpus.name].longest},
        "train": {"seed": seed},
    }
    return common.settings_of(RECIPE, changes)


def pooled_of(corpus: Labelled) -> np.ndarray:
    """MiniLM's pooled states [N 384], computed once."""
    kept = RUNS / f"{corpus.name}.npz"
    if not kept.is_file():
        RUNS.mkdir(parents=True, exist_ok=True)
        model = build(settings_of(corpus, 0), corpus.texts)
        np.savez(kept, features=model.pooled(corpus.texts).numpy())
    return np.load(kept)["features"]


def of_length_one(pooled: np.ndarray) -> np.ndarray:
    """As MiniLM's embeddings are meant to be used."""
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


@final
class Lookup(nn.Module):
    """The states of a frozen encoder for text i, given the input i."""

    def __init__(self, states: np.ndarray) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.from_numpy(states))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"last_hidden_state": self.table(input_ids)}


def numbers(indices: Sequence[int]) -> dict[str, Tensor]:
    """The encoder's part of a batch if the encoder is a lookup."""
    return {
        "input_ids": torch.tensor(indices).unsqueeze(1),
        "attention_mask": torch.ones(len(indices), 1, dtype=torch.long),
    }


@torch.no_grad()
def start(model: OptimusModel, states: np.ndarray, seed: int) -> None:
    """Initialise the head at principal directions, proportions kept, and the prior at k-means."""
    size, clusters = model.config.latent_size, model.config.prior_components
    _, scales, directions = np.linalg.svd(states, full_matrices=False)
    weight = directions[:size] * SPREAD * math.sqrt(len(states)) / scales[0]
    mean = states @ weight.T
    found = np.asarray(cluster(mean, clusters, seed=seed))
    centres = np.stack([mean[found == one].mean(0) for one in range(clusters)])
    variance = (mean - centres[found]).var(0) + 1  # of z: spread within clusters, and noise
    model.encoder.head.weight[:size] = torch.from_numpy(weight)
    model.encoder.head.weight[size:] = 0
    model.prior_module.mean.copy_(torch.from_numpy(centres))
    model.prior_module.log_variance.copy_(torch.from_numpy(np.log(variance)).expand(clusters, -1))


def train(corpus: Labelled, pooled: np.ndarray, seed: int) -> tuple[OptimusModel, Tensor, dict]:
    """A trained model, the posterior means of all texts [N P], and the final terms."""
    settings = settings_of(corpus, seed)
    model = build(settings, corpus.texts)
    states = of_length_one(pooled)
    states -= states.mean(0)
    start(model, states, seed)
    model.encoder.model = Lookup(states)
    ending = optimise(model.train(), settings, model.codec.prepare(corpus.texts))
    with torch.no_grad():
        mean = model.eval().posterior(numbers(range(len(states)))).mean
    return model, mean, ending


def optimise(model: OptimusModel, settings: Settings, examples: TextExamples) -> dict[str, float]:
    """Maximise the ELBO; its mean terms over the last LAST steps, nats per text."""
    steps, seed, rate = settings.train.steps, settings.train.seed, settings.train.learning_rate
    batches = BucketBatches(
        examples.decoder_tokens.lengths,
        tokens_per_batch=settings.train.tokens_per_batch,
        seed=seed,
    )
    head, prior = [model.encoder.head.weight], [*model.prior_module.parameters()]
    optimiser = torch.optim.AdamW(
        [
            {"params": [*model.decoder.parameters(), *model.bridge.parameters()], "lr": rate},
            {"params": head, "lr": HEAD_RATE * rate},
            {"params": prior, "lr": PRIOR_RATE * rate},
        ],
        weight_decay=settings.train.weight_decay,
    )
    schedule = get_cosine_schedule_with_warmup(optimiser, round(0.03 * steps), steps)
    objective = make_objective(settings.objective, steps)
    terms = []
    for step in range(steps):
        epoch, place = divmod(step, len(batches))
        if place == 0:
            batches.set_epoch(epoch)
            order = list(batches)
        batch = examples.collate(
            order[place], seed=seed, epoch=epoch, noise_shape=model.latent_shape
        )
        output = model(**batch | numbers(order[place]))
        optimiser.zero_grad()
        objective(Terms(output.reconstruction, output.kl), step).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.train.clip)
        optimiser.step()
        schedule.step()
        sums = (output.reconstruction.sum().item(), output.kl.sum().item())
        terms.append((*sums, len(order[place])))
    reconstruction, kl, count = np.sum(terms[-LAST:], axis=0).tolist()
    return {"reconstruction": reconstruction / count, "kl": kl / count}


def word_features(corpus: Labelled) -> csr_array:
    """TF-IDF as it clusters best: frequent words without function words.

    It reads as many words of a text as MiniLM reads tokens.
    """
    longest = CORPORA[corpus.name].longest
    cut = [" ".join(text.split()[:longest]) for text in corpus.texts]
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=5)
    return csr_array(vectorizer.fit_transform(cut))


def baselines(corpus: Labelled, pooled: np.ndarray) -> dict[str, Callable[[], dict]]:
    """Row → function that computes its scores."""
    unit = of_length_one(pooled)

    def of(features: Any, method: Clustering = "kmeans", principal: int = 0) -> dict:
        return cluster_scores(features, corpus.labels, corpus.classes, method, STARTS, principal)

    return {
        "TF-IDF, k-means": lambda: of(word_features(corpus)),
        "MiniLM, k-means": lambda: of(pooled),
        "MiniLM of length 1, k-means": lambda: of(unit),
        "its 32 principal components, k-means": lambda: of(unit, principal=32),
        "its 32 principal components, mixture": lambda: of(unit, "gmm", 32),
        "its 32 principal components, full mixture": lambda: of(unit, "gmm-full", 32),
    }


def measure(name: str) -> None:
    """Measure the rows of a corpus that are missing, and write each at once."""
    corpus = labelled(name)
    pooled = pooled_of(corpus)
    for row, scores in baselines(corpus, pooled).items():
        if not known(name, row):
            keep(corpus, row, {"scores": plain(scores())})
    for seed in range(1 if name in DEVELOPMENT else TRAININGS):
        row = f"Isthmus, training {seed}"
        if known(name, row):
            continue
        before = time.process_time()
        model, mean, ending = train(corpus, pooled, seed)
        seconds = time.process_time() - before
        of_prior = clustering_metrics(corpus.labels, components(model, mean))
        others: dict[str, Clustering] = {"k-means": "kmeans", "full mixture": "gmm-full"}
        scores = {"components of the prior": {key: [of_prior[key]] for key in METRICS}} | {
            title: plain(
                cluster_scores(mean.numpy(), corpus.labels, corpus.classes, method, STARTS)
            )
            for title, method in others.items()
        }
        keep(corpus, row, {"scores": scores, "processor_seconds": seconds, **ending})
        if seed == 0:
            groups = components(model, mean)
            cluster_map(mean.double().numpy(), groups, corpus.labels, RUNS / f"{name}.png")


def plain(scores: dict[str, Estimate]) -> dict[str, list[float | None]]:
    """Metric → mean and standard error over the starts."""
    return {key: [scores[key].value, scores[key].standard_error] for key in METRICS}


def known(name: str, row: str) -> bool:
    record = read("clustering") or {"corpora": {}}
    return row in record["corpora"].get(name, {}).get("rows", {})


def keep(corpus: Labelled, row: str, found: dict[str, Any]) -> None:
    """Add a row to the result file."""
    record = read("clustering") or {"corpora": {}}
    source = CORPORA[corpus.name]
    about = {
        "texts": len(corpus.texts),
        "classes": corpus.classes,
        "longest_in_tokens": source.longest,
        "development": corpus.name in DEVELOPMENT,
        "rows": {},
    }
    record["corpora"].setdefault(corpus.name, about)["rows"][row] = found
    recipe = dataclasses.asdict(common.settings_of(RECIPE))
    write("clustering", {"starts": STARTS, "recipe": recipe, "corpora": record["corpora"]})


def table() -> str:
    """Markdown of the result file."""
    record = read("clustering") or {"corpora": {}}
    lines = []
    for name, about in record["corpora"].items():
        kind = ", where the settings were chosen" if about["development"] else ""
        lines += [
            f"**{name}**{kind}: {about['texts']:,} texts, {about['classes']} classes, the first "
            f"{about['longest_in_tokens']} tokens of each\n",
        ]
        found = {row: one["scores"] for row, one in about["rows"].items()}
        trainings = [scores for row, scores in found.items() if row.startswith("Isthmus")]
        rows = {row: scores for row, scores in found.items() if not row.startswith("Isthmus")}
        for method in trainings[0] if trainings else ():
            rows[f"Isthmus, {method}"] = {
                key: over([one[method][key][0] for one in trainings]) for key in METRICS
            }
        cells = [
            [row, *(plus_minus(*scores[key]) for key in METRICS)] for row, scores in rows.items()
        ]
        lines += [*markdown(["", *METRICS.values()], cells), ""]
    return "\n".join(lines)


def over(values: list[float]) -> list[float | None]:
    """Mean and standard error over trainings."""
    estimate = Estimate.mean_of(torch.tensor(values, dtype=torch.double))
    return [estimate.value, estimate.standard_error]


def main() -> None:
    one_thread()
    arguments = sys.argv[1:]
    if arguments != ["--table"]:
        for name in arguments or CORPORA:
            measure(name)
    write_text("clustering", table())


if __name__ == "__main__":
    main()
