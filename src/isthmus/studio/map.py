"""The map: a corpus in two dimensions, its colours, and a latent for any place on it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.evaluation.usage import ACTIVE_THRESHOLD
from isthmus.explore import mixture_of, neighbours
from isthmus.explore.walks import equal_points
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise
from isthmus.latent.prior import Mixture
from isthmus.models.base import LatentModel, evaluating, in_batches, summarised
from isthmus.studio.projections import InBackground, Plane, placed, random_order

Projection = Literal["pca", "tsne"]
Colour = Literal["label", "cluster", "length", "reconstruction", "kl"]

PAUSE: Final = 0.05
"""Seconds that encoding one slice takes: a request waits at most this long for it."""
SLICE: Final = 256
"""Most examples in a slice."""
EARLY: Final = 512
"""How many examples are encoded before the map is first shown."""
CLUSTERS: Final = 12
NAMES: Final = 60
"""Most labels with a colour of their own; rarer ones share one."""
CROWD: Final = 512
"""Examples whose distance to the nearest other one is measured."""
NEAR: Final = 8
"""Points of the map whose latents are averaged for a place between them."""
OTHERS: Final = "(others)"
NOWHERE: Final[dict[str, Any]] = {
    "distance": None,
    "crowd": None,
    "neighbour": None,
    "places": None,
}
"""What :meth:`Map.locate` returns without a corpus."""


@final
class Mapped(NamedTuple):
    """What is known of a corpus that was mapped before; N examples, in its order."""

    posterior: Posterior
    reconstruction: Tensor
    """[N], nats."""
    kl: Tensor
    """[N], nats."""
    tsne: NDArray[np.float32]
    """[N 2]."""


@final
class Map:
    """N examples of a corpus, encoded and placed by :meth:`work`, a slice at a time.

    Of a model with two levels everything here is of the summary, with hidden details.

    Attributes:
        mean: of q(z|x), [N P]; NaN where an example is not encoded yet. K latents are a vector of
            K·P numbers here.
        reconstruction: −log p(x|z) at the posterior's mean, [N], nats.
        kl: KL(q(z|x) ‖ p(z)), [N], nats; from one draw where it has no closed form.
        clusters: k-means, [N]; None until found.
        done: number of encoded examples.
        failed: the work raised an error.
    """

    def __init__(self, model: LatentModel, corpus: Any, spread: Tensor) -> None:
        with summarised(model):
            self.shape = model.latent_shape
        count, size = len(corpus), math.prod(self.shape)
        self.model, self.corpus, self.spread = model, corpus, spread
        self.mean = torch.full((count, size), torch.nan)
        self._posteriors: list[Posterior] = []
        self.reconstruction = torch.full((count,), torch.nan)
        self.kl = torch.full((count,), torch.nan)
        self.clusters: NDArray[np.int64] | None = None
        self.done = 0
        self.failed = False
        self.order = random_order(count)
        self._plane: Plane | None = None
        self._flat: NDArray[np.float32] | None = None
        self._exact = self.mean.double()
        self._titles = corpus.titles
        self._used = torch.ones(size, dtype=torch.bool)
        self._tsne = InBackground()
        self._crowd: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def ready(self) -> bool:
        """Whether every example is encoded and has its place."""
        return self._flat is not None

    @property
    def posterior(self) -> Posterior:
        """q(z|x) of the corpus."""
        self._check_ready()
        return Posterior.concatenate(self._posteriors)[self.order.argsort()]

    @cached_property
    def mixture(self) -> Mixture:
        """A mixture fitted to the aggregate posterior of the corpus."""
        return mixture_of(self.posterior)

    def _check_ready(self) -> None:
        if not self.ready:
            raise IsthmusError(
                f"map: {self.done:,} of {len(self):,} examples are encoded; try again when all are"
            )

    def take(self, known: Mapped) -> None:
        """Take over what was found before, so that :meth:`work` encodes nothing."""
        self.mean = known.posterior.mean.flatten(1)
        self.reconstruction, self.kl = known.reconstruction, known.kl
        self._posteriors = [known.posterior[self.order]]
        self._tsne.take(known.tsne)
        self.done = len(self)

    def work(self) -> Iterator[None]:
        """Encode the corpus, project it, cluster it, and measure distances between neighbours."""
        try:
            yield from self._work()
        except Exception:
            self.failed = True  # status() reports it
            raise

    def _work(self) -> Iterator[None]:
        size = 1
        while self.done < len(self):
            begin = time.monotonic()
            self._encode(self.order[self.done : self.done + size])
            took = max(time.monotonic() - begin, 1e-3)
            size = max(1, min(int(size * PAUSE / took), 2 * size, SLICE))
            if self.done >= EARLY and self._plane is None:
                self._project(self.mean[self.order[: self.done]])
            yield
        self._exact = self.mean.double()
        self._project(self.mean)
        self._flat = self.plane().places(self.mean).numpy()
        yield
        self.clusters = _clusters(self.mean)
        yield
        found = []
        for rows in self.order[:CROWD].split(4):
            found.append(self._apart(rows))
            yield
        self._crowd = torch.cat(found).sort().values

    @torch.no_grad()
    def _encode(self, rows: Tensor) -> None:
        model, places = self.model, rows.tolist()
        noise = example_noise(0, EVALUATION_STREAM, places, self.shape).unsqueeze(0)
        posteriors, order = [], []
        with evaluating(model), summarised(model):
            prior = model.prior
            examples = model.codec.prepare([self.corpus.examples[place] for place in places])
            for indices, batch in in_batches(model, examples):
                posterior = model.posterior(batch)
                losses = model.reconstruction(posterior.mean.unsqueeze(0), batch)[0]
                kl = posterior.kl(prior, posterior.rsample(noise=noise[:, indices]))
                here = rows[indices]
                self.mean[here] = posterior.mean.flatten(1).float().cpu()
                self.reconstruction[here] = losses.float().cpu()
                self.kl[here] = kl.flatten(1).sum(1).float().cpu()
                posteriors.append(posterior.cpu())
                order += indices
        self._posteriors.append(Posterior.concatenate(posteriors)[torch.tensor(order).argsort()])
        self.done += len(rows)

    def _project(self, mean: Tensor) -> None:
        """Find the principal plane, and the dimensions in use: those whose means vary."""
        self._plane = Plane.of(mean)
        used = mean.var(0, correction=0) >= ACTIVE_THRESHOLD
        self._used = used if used.any() else torch.ones_like(used)

    def _scaled(self, difference: Tensor) -> Tensor:
        """Length of differences [... P] over the dimensions in use; 1 is a typical deviation.

        Unused dimensions say nothing about how far out a latent is.
        """
        used = self._used
        return difference[..., used].norm(dim=-1) / self.spread[used].norm()

    def _apart(self, rows: Tensor) -> Tensor:
        """Distance to the nearest other example, [M]."""
        query = self.mean[rows]
        indices = neighbours(query, self._exact, 2)[1]
        if indices.shape[1] < 2:
            return torch.full((len(rows),), torch.inf)
        # A duplicate may come before the point itself.
        other = torch.where(indices[:, 0] == rows, indices[:, 1], indices[:, 0])
        return self._scaled(query - self.mean[other])

    def nearest(self, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Euclidean distances and indices of the nearest encoded examples, both [M count]."""
        if self.ready:
            return neighbours(z, self._exact, count)
        rows = self.order[: self.done]
        distances, indices = neighbours(z, self.mean[rows], count)
        return distances, rows[indices]

    def locate(self, z: Tensor) -> list[dict[str, Any]]:
        """Where latents [M P] are on the maps, and how far out they lie.

        Returns:
            ``places`` on each projection; the nearest example as ``neighbour``; its ``distance``
            over the dimensions in use, in units of their spread; ``crowd``, the share of the
            corpus at least that far from its own nearest. None where not known yet.
        """
        if not self.done:
            return [NOWHERE] * len(z)
        index = self.nearest(z, 1)[1][:, 0]
        z = z.flatten(1)
        distances = self._scaled(z - self.mean[index])
        flat = None if self._plane is None else self._plane.places(z).tolist()
        tsne = None if self._tsne.points is None else self._between(z).tolist()
        crowd: list[float] | None = None
        if self._crowd is not None:
            crowd = (self._crowd >= distances.unsqueeze(1)).double().mean(1).tolist()
        return [
            {
                "distance": distance,
                "crowd": crowd and crowd[row],
                "neighbour": {"index": place, "text": self._titles[place]},
                "places": {"pca": flat and flat[row], "tsne": tsne and tsne[row]},
            }
            for row, (distance, place) in enumerate(
                zip(distances.tolist(), index.tolist(), strict=True)
            )
        ]

    def _between(self, z: Tensor) -> Tensor:
        """Latents [M P] on the t-SNE map, [M 2], between their nearest examples."""
        distances, indices = self.nearest(z, 3)
        return placed(distances, torch.from_numpy(self.points("tsne"))[indices])

    def plane(self) -> Plane:
        """The two principal components.

        Raises:
            IsthmusError: Too few examples are encoded.
        """
        if self._plane is None:
            self._check_ready()
            raise IsthmusError("map: not ready yet; try again in a second")
        return self._plane

    def points(self, projection: Projection) -> NDArray[np.float32]:
        """Places on the map, [N 2] in −1 … 1; NaN for examples that are not encoded yet.

        Raises:
            IsthmusError: This map does not exist yet.
        """
        if projection == "pca":
            if self._flat is not None:
                return self._flat
            return self.plane().places(self.mean).numpy()
        if self._tsne.points is None:
            raise IsthmusError("map: t-SNE is not ready; start it with POST /api/map/tsne")
        return self._tsne.points

    def place(self, x: float, y: float, projection: Projection) -> tuple[Tensor, str]:
        """The latent, [P] or [K P], for any place on the map, and a sentence on how it was found.

        The mean of the latents of the NEAR nearest points, weighted by inverse distance. On the
        principal plane it is then moved within the plane to the place itself, so that places far
        from all points differ.
        """
        target = np.array([x, y], dtype=np.float64)
        away = np.square(self.points(projection).astype(np.float64) - target).sum(1)
        away[np.isnan(away)] = np.inf
        count = min(NEAR, self.done)
        nearest = np.argpartition(away, count - 1)[:count]
        weights = 1 / (np.sqrt(away[nearest]) + 1e-9)
        share = torch.from_numpy(weights / weights.sum())
        z = (share @ self.mean[nearest].double()).float()
        how = f"the mean of the {len(nearest)} nearest points, nearer ones counting more"
        if projection == "tsne":
            how += " (t-SNE itself has no inverse)"
        else:
            z, how = self.plane().moved(z, torch.from_numpy(target)), f"{how}, moved to this place"
        return z.view(self.shape), how

    def start_tsne(self) -> None:
        """Start t-SNE in the background, unless already started.

        Raises:
            IsthmusError: The corpus is not encoded yet.
        """
        self._check_ready()
        self._tsne.start(self.mean)

    def status(self) -> dict[str, Any]:
        """The answer to GET /api/map."""
        plane = self._plane
        state = "queued" if plane is None else "ready" if self.ready else "working"
        pca = {
            "state": "failed" if self.failed else state,
            "done": self.done,
            "total": len(self),
            "explained": None if plane is None else plane.explained,
        }
        projections = {"pca": pca, "tsne": self._tsne.status(len(self))}
        return {"count": len(self), "projections": projections, "colours": self.colours()}

    def colours(self) -> list[dict[str, Any]]:
        """The available colours."""
        found = []
        for name, values in self._colours().items():
            waits = self.clusters is None if name == "cluster" else not self.ready
            computed = name not in ("label", "length")
            names, known = self.categories(name), values[np.isfinite(values)]
            low, high = (float(known.min()), float(known.max())) if len(known) else (None, None)
            colour = {
                "name": name,
                "state": "working" if computed and waits else "ready",
                "names": names,
                "kind": "number" if names is None else "category",
                "low": low if names is None else 0,
                "high": high if names is None else len(names) - 1,
            }
            found.append(colour)
        return found

    def _colours(self) -> dict[Colour, NDArray[np.float32]]:
        """Category number or value of every example, [N]; NaN where not known."""
        found: dict[Colour, NDArray[np.float32]] = {}
        if self.corpus.labels is not None:
            found["label"] = self._label_numbers
        unknown = np.full(len(self), np.nan, np.float32)
        found["cluster"] = unknown if self.clusters is None else self.clusters.astype(np.float32)
        if self._lengths is not None:
            found["length"] = self._lengths
        return {**found, "reconstruction": self.reconstruction.numpy(), "kl": self.kl.numpy()}

    def colour(self, name: Colour) -> NDArray[np.float32]:
        """One of the colours, [N]; see :meth:`colours`.

        Raises:
            IsthmusError: The corpus has no such colour.
        """
        known = self._colours()
        if name not in known:
            raise IsthmusError(f"by: got {name!r}, expected one of {', '.join(known)}")
        return known[name]

    def categories(self, name: Colour) -> list[str] | None:
        """Names of a colour's categories; None for a numeric colour."""
        if name == "cluster":
            return [str(cluster) for cluster in range(_cluster_count(len(self)))]
        return self._labels if name == "label" else None

    @cached_property
    def _labels(self) -> list[str]:
        """The most frequent labels, and one name for all others."""
        counts = Counter(self.corpus.labels)
        names = [label for label, _ in counts.most_common(NAMES)]
        return [*names, OTHERS] if len(counts) > NAMES else names

    @cached_property
    def _label_numbers(self) -> NDArray[np.float32]:
        place = {label: i for i, label in enumerate(self._labels)}
        last = place.get(OTHERS, 0)
        return np.array([place.get(label, last) for label in self.corpus.labels], np.float32)

    @cached_property
    def _lengths(self) -> NDArray[np.float32] | None:
        counts = self.corpus.word_counts
        return None if counts is None else np.array(counts, np.float32)


def _cluster_count(examples: int) -> int:
    return min(CLUSTERS, max(1, examples // 10))


def _clusters(mean: Tensor) -> NDArray[np.int64]:
    """k-means of latents [N P], fitted on at most 10,000 of them."""
    from sklearn.cluster import KMeans

    rows = torch.linspace(0, len(mean) - 1, min(len(mean), 10_000)).long()
    count = _cluster_count(len(mean))
    with equal_points():
        means = KMeans(count, n_init=3, random_state=0).fit(mean[rows].double().numpy())
    return means.predict(mean.double().numpy()).astype(np.int64)
