"""The map: a corpus in two dimensions, its colours, and the latent of any place of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.evaluation.usage import ACTIVE_THRESHOLD
from isthmus.explore.walks import mixture_of, neighbours
from isthmus.latent.distribution import Posterior
from isthmus.latent.noise import example_noise
from isthmus.latent.prior import Mixture
from isthmus.models.base import LatentModel, evaluating, in_batches
from isthmus.studio.kinds import titles
from isthmus.studio.projections import InBackground, Plane, placed, random_order

Projection = Literal["pca", "tsne"]
Colour = Literal["label", "cluster", "length", "reconstruction", "kl"]

PAUSE: Final = 0.05
"""Seconds of a client's call that encoding may take away, and so long a slice of it takes."""
SLICE: Final = 256
"""Examples in a slice, however fast the model is."""
EARLY: Final = 512
"""Examples after which the map shows itself, while the others are still encoded."""
CLUSTERS: Final = 12
NAMES: Final = 60
"""Labels that have a colour of their own; the rarest of more share one."""
CROWD: Final = 512
"""Points of the corpus whose nearest other one is looked for."""
NEAR: Final = 8
"""Points of the map that a place between them gets its latent from."""
OTHERS: Final = "(others)"
NOWHERE: Final[dict[str, Any]] = {
    "distance": None,
    "crowd": None,
    "neighbour": None,
    "places": None,
}
"""What is known of a latent without a corpus."""


@final
class Map:
    """What is known of N examples of a corpus; :meth:`work` finds it out, a slice at a time.

    Attributes:
        mean: of q(z|x), [N P]; NaN where an example is not encoded yet.
        reconstruction: −log p(x|z) at the posterior's mean, [N], nats.
        kl: KL(q(z|x) ‖ p(z)), [N], nats; from one draw where it has no closed form.
        clusters: by k-means, [N]; None before they are found.
        done: examples that are encoded.
        failed: the work has ended before its time.
    """

    def __init__(self, model: LatentModel, corpus: Any, spread: Tensor) -> None:
        count, size = len(corpus), model.latent_shape[0]
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
        self._titles = titles(corpus)
        self._used = torch.ones(size, dtype=torch.bool)
        self._tsne = InBackground()
        self._crowd: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def ready(self) -> bool:
        """Every example is encoded and has its place."""
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

    def work(self) -> Iterator[None]:
        """Encode the corpus, project it, cluster it, and measure how near its points are."""
        try:
            yield from self._work()
        except Exception:
            self.failed = True  # whoever waits for the map is told
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
        model, places, prior = self.model, rows.tolist(), self.model.prior
        noise = example_noise(0, EVALUATION_STREAM, places, model.latent_shape).unsqueeze(0)
        posteriors, order = [], []
        with evaluating(model):
            examples = model.codec.prepare([self.corpus.examples[place] for place in places])
            for indices, batch in in_batches(model, examples):
                posterior = model.posterior(batch)
                losses = model.reconstruction(posterior.mean.unsqueeze(0), batch)[0]
                kl = posterior.kl(prior, posterior.rsample(noise=noise[:, indices])).sum(-1)
                here = rows[indices]
                self.mean[here] = posterior.mean.float().cpu()
                self.reconstruction[here], self.kl[here] = losses.float().cpu(), kl.float().cpu()
                posteriors.append(posterior.cpu())
                order += indices
        self._posteriors.append(Posterior.concatenate(posteriors)[torch.tensor(order).argsort()])
        self.done += len(rows)

    def _project(self, mean: Tensor) -> None:
        """The principal plane, and the dimensions that are used: those whose means vary."""
        self._plane = Plane.of(mean)
        used = mean.var(0, correction=0) >= ACTIVE_THRESHOLD
        self._used = used if used.any() else torch.ones_like(used)

    def _scaled(self, difference: Tensor) -> Tensor:
        """Length of differences [... P] over the used dimensions, 1 for a typical deviation.

        Dimensions that no text uses say nothing of how far out a latent is.
        """
        used = self._used
        return difference[..., used].norm(dim=-1) / self.spread[used].norm()

    def _apart(self, rows: Tensor) -> Tensor:
        """How far the nearest other example is, [M]."""
        query = self.mean[rows]
        indices = neighbours(query, self._exact, 2)[1]
        if indices.shape[1] < 2:
            return torch.full((len(rows),), torch.inf)
        # An equal twin may be named before the point itself.
        other = torch.where(indices[:, 0] == rows, indices[:, 1], indices[:, 0])
        return self._scaled(query - self.mean[other])

    def nearest(self, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Euclidean distances and indices of the nearest encoded examples, both [M count]."""
        if self.ready:
            return neighbours(z, self._exact, count)
        rows = self.order[: self.done]
        distances, indices = neighbours(z, self.mean[rows], count)
        return distances, rows[indices]

    def standing(self, z: Tensor) -> list[dict[str, Any]]:
        """Where latents [M P] are on the maps, and how far out they lie.

        Returns:
            ``places`` on each projection; ``distance`` to the nearest example over the dimensions
            in use, in units of their spread; ``crowd``, the share of the corpus that lies at least
            as far from its own nearest; and that ``neighbour``. None where it is not known yet.
        """
        if not self.done:
            return [NOWHERE] * len(z)
        index = self.nearest(z, 1)[1][:, 0]
        distances = self._scaled(z - self.mean[index])
        flat = None if self._plane is None else self._plane.places(z).tolist()
        tsne = None if self._tsne.points is None else self._between(z).tolist()
        found = []
        for row, (distance, place) in enumerate(
            zip(distances.tolist(), index.tolist(), strict=True)
        ):
            crowd = None
            if self._crowd is not None:
                crowd = (self._crowd >= distance).double().mean().item()
            found.append(
                {
                    "distance": distance,
                    "crowd": crowd,
                    "neighbour": {"index": place, "text": self._titles[place]},
                    "places": {"pca": flat and flat[row], "tsne": tsne and tsne[row]},
                }
            )
        return found

    def _between(self, z: Tensor) -> Tensor:
        """Latents [M P] on the map of t-SNE, [M 2], by their nearest examples."""
        distances, indices = self.nearest(z, 3)
        return placed(distances, torch.from_numpy(self.points("tsne"))[indices])

    def plane(self) -> Plane:
        """The two principal components.

        Raises:
            IsthmusError: too little is encoded.
        """
        if self._plane is None:
            self._check_ready()
            raise IsthmusError("map: it is being drawn; try again in a second")
        return self._plane

    def points(self, projection: Projection) -> NDArray[np.float32]:
        """Places on the map, [N 2] in −1 … 1; NaN for examples that are not encoded yet.

        Raises:
            IsthmusError: there is no such map yet.
        """
        if projection == "pca":
            if self._flat is not None:
                return self._flat
            return self.plane().places(self.mean).numpy()
        if self._tsne.points is None:
            raise IsthmusError("map: t-SNE is not ready; start it with POST /api/map/tsne")
        return self._tsne.points

    def place(self, x: float, y: float, projection: Projection) -> tuple[Tensor, str]:
        """The latent [P] of any place of the map, and in one sentence how it was found.

        The mean of the latents of the nearest NEAR points, each by one over its distance; on the
        principal plane moved within the plane to the place itself, so that places far from every
        point have latents of their own.
        """
        target = np.array([x, y], dtype=np.float64)
        away = np.square(self.points(projection).astype(np.float64) - target).sum(1)
        away[np.isnan(away)] = np.inf
        count = min(NEAR, self.done)
        nearest = np.argpartition(away, count - 1)[:count]
        weights = 1 / (np.sqrt(away[nearest]) + 1e-9)
        share = torch.from_numpy(weights / weights.sum())
        z = (share @ self.mean[nearest].double()).float()
        told = f"the mean of the {len(nearest)} nearest points, nearer ones counting more"
        if projection == "tsne":
            return z, f"{told} (t-SNE has no way back of its own)"
        return self.plane().moved(z, torch.from_numpy(target)), f"{told}, moved to this place"

    def start_tsne(self) -> None:
        """Begin t-SNE on a thread of its own, if it has not begun.

        Raises:
            IsthmusError: the corpus is not encoded yet.
        """
        self._check_ready()
        self._tsne.start(self.mean)

    def told(self) -> dict[str, Any]:
        """What GET /api/map answers."""
        plane = self._plane
        state = "queued" if plane is None else "ready" if self.ready else "working"
        pca = {
            "state": "failed" if self.failed else state,
            "done": self.done,
            "total": len(self),
            "explained": None if plane is None else plane.explained,
        }
        projections = {"pca": pca, "tsne": self._tsne.told(len(self))}
        return {"count": len(self), "projections": projections, "colours": self.colours()}

    def colours(self) -> list[dict[str, Any]]:
        """The colours that there are."""
        found = []
        for name in self._colour_names():
            names = self.categories(name)
            ready = {"cluster": self.clusters is not None, "kl": self.ready}
            ready["reconstruction"] = self.ready
            state = "ready" if ready.get(name, True) else "working"
            told: dict[str, Any] = {"name": name, "state": state, "names": names}
            if names is not None:
                found.append({**told, "kind": "category", "low": 0, "high": len(names) - 1})
                continue
            values = self.colour(name)
            known = values[np.isfinite(values)]
            low, high = (float(known.min()), float(known.max())) if len(known) else (None, None)
            found.append({**told, "kind": "number", "low": low, "high": high})
        return found

    def _colour_names(self) -> list[Colour]:
        names: list[Colour] = ["cluster", "reconstruction", "kl"]
        if self.corpus.kind == "text":
            names.insert(1, "length")
        if self.corpus.labels is not None:
            names.insert(0, "label")
        return names

    def categories(self, name: Colour) -> list[str] | None:
        """Names of a colour's categories; None for a colour that is a number."""
        if name == "cluster":
            return [str(cluster) for cluster in range(_cluster_count(len(self)))]
        if name != "label" or self.corpus.labels is None:
            return None
        return self._labels

    def colour(self, name: Colour) -> NDArray[np.float32]:
        """Category number or value of every example, [N]; NaN where it is not known.

        Raises:
            IsthmusError: the corpus has no such colour.
        """
        if name not in self._colour_names():
            raise IsthmusError(
                f"by: got {name!r}, expected one of {', '.join(self._colour_names())}"
            )
        if name == "label":
            place = {label: i for i, label in enumerate(self._labels)}
            last = place.get(OTHERS, 0)
            return np.array([place.get(label, last) for label in self.corpus.labels], np.float32)
        if name == "length":
            return self._lengths
        if name == "cluster":
            if self.clusters is None:
                return np.full(len(self), np.nan, np.float32)
            return self.clusters.astype(np.float32)
        values: Tensor = {"reconstruction": self.reconstruction, "kl": self.kl}[name]
        return values.numpy()

    @cached_property
    def _labels(self) -> list[str]:
        """The most frequent labels, and one name for the others if there are more."""
        counts = Counter(self.corpus.labels)
        names = [label for label, _ in counts.most_common(NAMES)]
        return [*names, OTHERS] if len(counts) > NAMES else names

    @cached_property
    def _lengths(self) -> NDArray[np.float32]:
        """Words of every text, [N]."""
        return np.array([len(text.split()) for text in self.corpus.texts], np.float32)


def _cluster_count(examples: int) -> int:
    return min(CLUSTERS, max(1, examples // 10))


def _clusters(mean: Tensor) -> NDArray[np.int64]:
    """k-means of latents [N P], found on 10,000 of them at most."""
    from sklearn.cluster import KMeans

    rows = torch.linspace(0, len(mean) - 1, min(len(mean), 10_000)).long()
    count = _cluster_count(len(mean))
    means = KMeans(count, n_init=3, random_state=0).fit(mean[rows].double().numpy())
    return means.predict(mean.double().numpy()).astype(np.int64)
