"""``isthmus cluster`` and ``isthmus probe``: latents compared with known classes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isthmus.commands import common
from isthmus.commands.space import with_latent
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from torch import Tensor

    from isthmus.evaluation.usage import Estimate
    from isthmus.models.base import LatentModel


@dataclass(frozen=True, kw_only=True)
class Cluster(common.OnCorpus):
    """Cluster texts or pictures by their latents, and compare the clusters with their labels.

    Of a run with a summary (--model.summary) they are clustered by the summary.
    If DATA has labels, standard error shows the agreement: accuracy under the best one-to-one
    matching, normalised and adjusted mutual information, adjusted Rand index, and V-measure. Each
    is the mean over several starts, with its standard error.
    """

    clusters: int = 0
    """Number of clusters; 0 for the number of labels, or of the prior's components."""
    method: Literal["kmeans", "gmm", "gmm-full", "ward", "prior"] = "kmeans"
    """k-means, Gaussian mixture (diagonal or full covariances), or Ward's hierarchy.
    prior takes the components of the run's own mixture prior."""
    principal: int = 0
    """Cluster this many principal components of the latents; 0 for the latents themselves."""
    plot: str = ""
    """A .png file for a map of the clusters and, with labels, of the classes."""
    seed: int = 0
    """Seed of the clustering."""
    seeds: int = 5
    """Number of starts to average the agreement over."""

    def run(self) -> None:
        picture = common.check_can_write(self.plot, (".png",)) if self.plot else None
        if self.method == "prior" and (self.clusters or self.principal):
            raise IsthmusError(
                "the clusters of --method prior are the components of the run's prior; "
                "leave out --clusters and --principal"
            )
        common.check_positive(seeds=self.seeds)
        corpus = self.corpus()
        clusters = self.clusters or len(set(corpus.labels or []))
        if not clusters and self.method != "prior":
            raise IsthmusError(f"{self.data}: has no labels to count; give --clusters")
        model = with_latent(self)
        from isthmus.models.base import summarised

        with summarised(model):
            z = common.encode(model, corpus.examples).mean
        found, scores = self._clusters(model, z, clusters, corpus.labels)
        if len(set(found)) < clusters:
            few = (
                f"{len(set(found))} of {clusters} clusters have examples: too few examples differ"
            )
            print(few, file=sys.stderr)
        z = z.flatten(1)
        _report(z, found, corpus.labels, scores, self.json)
        if picture is not None:
            from isthmus.evaluation.plots import cluster_map

            cluster_map(z.double().numpy(), found, corpus.labels, picture)
        records = common.rows({"cluster": found, corpus.kind.field: corpus.names})
        common.emit(records, self.json, f"{{cluster}}\t{{{corpus.kind.field}}}")

    def _clusters(
        self, model: LatentModel, z: Tensor, clusters: int, labels: list[str] | None
    ) -> tuple[Sequence[int], dict[str, Any]]:
        """The clusters, and their agreement with the labels, if any."""
        from isthmus.evaluation.clustering import cluster_scores, clustering_metrics
        from isthmus.explore.walks import cluster, components

        if self.method == "prior":
            found = components(model, z)
            return found, {} if labels is None else clustering_metrics(labels, found)
        found = cluster(z, clusters, self.method, self.seed, self.principal)
        if labels is None:
            return found, {}
        points = z.flatten(1).double().numpy()
        return found, flat(
            cluster_scores(points, labels, clusters, self.method, self.seeds, self.principal)
        )


def _report(
    z: Tensor,
    found: Sequence[int],
    labels: list[str] | None,
    scores: dict[str, Any],
    as_json: bool,
) -> None:
    """Report agreement and silhouettes on standard error."""
    from isthmus.evaluation.clustering import silhouette

    points = z.double().numpy()
    apart = {"clusters": silhouette(points, found)}
    if labels is not None:
        print(f"agreement with the labels: {common.figures(scores, as_json)}", file=sys.stderr)
        apart["labels"] = silhouette(points, labels)
    print(f"silhouette: {common.figures(flat(apart), as_json)}", file=sys.stderr)


def flat(estimates: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    """Values by name, each with its standard error as ``…_se``."""
    values: dict[str, float | None] = {}
    for name, estimate in estimates.items():
        values[name] = None if estimate is None else estimate.value
        values[f"{name}_se"] = None if estimate is None else estimate.standard_error
    return values


@dataclass(frozen=True, kw_only=True)
class Probe(common.OnCorpus):
    """Predict labels from latents with few training labels, and compare with baselines.

    A logistic classifier is trained on the posterior means of a few labelled examples and tested
    on a held-out third of DATA. The baselines are the encoder's pooled state (the means are a
    linear map of it); TF-IDF of words and word pairs (for pictures, the pixel values); and the
    most frequent class. Of a run with a summary (--model.summary) both are those of the summary.
    """

    labels: str = "10,100,1000"
    """Number of training labels, or several numbers separated by commas."""
    seeds: int = 5
    """Number of random choices of training labels and held-out examples."""
    json: bool = False
    """Print JSON Lines, one object for each combination of features and number of labels."""

    def run(self) -> None:
        sizes = whole_numbers(self.labels)
        corpus = self.corpus()
        if corpus.labels is None:
            raise IsthmusError(
                f"{self.data}: has no labels for the probe to predict; expected label TAB text, "
                'or a column "label"'
            )
        from isthmus.evaluation.metrics import MEASURES
        from isthmus.evaluation.probe import majority, probe

        frequent = majority(corpus.labels, sizes, self.seeds)
        model = self.load()
        from isthmus.models.base import summarised

        with summarised(model):
            features = latent_features(model, corpus.examples, self.run_directory)
        features |= MEASURES[corpus.kind].baseline(corpus)
        rows = {
            name: probe(values, corpus.labels, sizes, self.seeds)
            for name, values in features.items()
        }
        rows["most frequent class"] = frequent
        if self.json:
            common.emit(list(probe_records(rows)), True, "")
        else:
            print_probe(rows, self.seeds)


def whole_numbers(text: str) -> list[int]:
    """Numbers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise IsthmusError(
            f"--labels: got {text!r}, expected whole numbers with commas between them: 10,100,1000"
        ) from None


def latent_features(model: LatentModel, examples: Sequence[Any], run: str) -> dict[str, Any]:
    """The posterior mean and, if the model has one, the pooled state of the encoder, [N ·]."""
    from isthmus.models.optimus import OptimusModel

    mean = common.encode(model, examples).mean.flatten(1)
    if not mean.numel():
        raise IsthmusError(f"{run}: a plain language model has no latent to probe")
    features = {"latent mean": mean.numpy()}
    if isinstance(model, OptimusModel):
        with common.bar("encoding", len(examples)) as progress:
            features["pooled state"] = model.pooled(examples, progress).flatten(1).numpy()
    return features


def probe_records(rows: dict[str, dict[int, Estimate]]) -> list[dict[str, Any]]:
    """A flat record for each set of features and number of labels."""
    return [
        {
            "features": name,
            "labels": size,
            "accuracy": accuracy.value,
            "accuracy_se": accuracy.standard_error,
            "accuracy_half_width": accuracy.half_width,
            "seeds": accuracy.count,
        }
        for name, row in rows.items()
        for size, accuracy in row.items()
    ]


def print_probe(rows: dict[str, dict[int, Estimate]], seeds: int) -> None:
    """Accuracies as a table, with 95 % confidence intervals."""
    from rich.table import Table

    table = Table(title=f"accuracy, mean of {seeds} draws ± half of the 95 % interval")
    table.add_column("features")
    for size in next(iter(rows.values())):
        table.add_column(f"{size:,} labels", justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{a.value:.3f} ± {a.half_width:.3f}" for a in row.values()))
    common.table_console().print(table)
