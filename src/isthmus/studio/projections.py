"""Projections to two dimensions: principal components, with their inverse, and t-SNE."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.explore import neighbours
from isthmus.progress import Progress, no_progress

LANDMARKS: Final = 4000
"""Points that t-SNE places; the others are placed between the nearest of these."""


@final
@dataclass(frozen=True)
class Plane:
    """The first two principal components of latents, scaled so that all lie within −1 … 1.

    Attributes:
        centre: Mean of the latents, [P].
        axes: Orthonormal, [2 P].
        scale: Length of one unit of the map.
        middle: Centre of the map along the axes, [2].
        explained: Shares of the variance.
    """

    centre: Tensor
    axes: Tensor
    scale: float
    middle: Tensor
    explained: list[float]

    @classmethod
    def of(cls, points: Tensor) -> Plane:
        """The plane of latents [N P], or [N K P] as vectors of K·P numbers."""
        exact = points.flatten(1).double()
        centre = exact.mean(0)
        covariance = (exact - centre).T @ (exact - centre) / len(exact)
        variances, vectors = torch.linalg.eigh(covariance)
        axes = torch.zeros(2, exact.shape[1], dtype=torch.double)
        top = vectors.flip(1).T[:2]
        axes[: len(top)] = top
        # A vector's sign is arbitrary: make its largest entry positive, on every machine.
        largest = axes.abs().argmax(1, keepdim=True)
        axes *= torch.where(axes.gather(1, largest) < 0, -1.0, 1.0)
        flat = (exact - centre) @ axes.T
        low, high = flat.min(0).values, flat.max(0).values
        scale = max(float((high - low).max()) / 2, 1e-9)
        whole = float(variances.sum().clamp_min(1e-12))
        shares = [*(float(value) / whole for value in variances.flip(0)[:2]), 0.0]
        return cls(centre, axes, scale, (low + high) / 2, shares[:2])

    def places(self, z: Tensor) -> Tensor:
        """Latents [N P], or [N K P], on the map, [N 2]."""
        flat = (z.flatten(1).double() - self.centre) @ self.axes.T
        return ((flat - self.middle) / self.scale).float()

    def moved(self, z: Tensor, target: Tensor) -> Tensor:
        """A latent [P] moved within the plane to a place [2] of the map."""
        exact = z.double()
        flat = (exact - self.centre) @ self.axes.T
        return (exact + (target * self.scale + self.middle - flat) @ self.axes).float()


def random_order(count: int) -> Tensor:
    """A fixed random order of the numbers from 0, [count]: any first part is representative."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def tsne(mean: Tensor, progress: Progress = no_progress) -> NDArray[np.float32]:
    """t-SNE of latents [N P] or [N K P], [N 2] within −1 … 1 (van der Maaten & Hinton 2008).

    LANDMARKS of them, drawn at random, are embedded; every other is placed between its three
    nearest landmarks.

    Args:
        mean: [N P].
        progress: Called with the number just placed.
    """
    mean = mean.flatten(1)
    order = random_order(len(mean))
    rows = order[:LANDMARKS]
    marks = torch.from_numpy(_tsne(mean[rows].numpy()))
    progress(len(rows))
    points = torch.empty(len(mean), 2)
    points[rows] = marks
    for others in order[LANDMARKS:].split(256):
        distances, nearest = neighbours(mean[others], mean[rows], 3)
        points[others] = placed(distances, marks[nearest])
        progress(len(others))
    return points.numpy()


def placed(distances: Tensor, places: Tensor) -> Tensor:
    """Means of places [M K 2], each weighted by the inverse of its distance [M K]; [M 2]."""
    weights = 1 / (distances + 1e-9)
    share = weights / weights.sum(1, keepdim=True)
    return (share.unsqueeze(-1) * places.double()).sum(1).float()


def _tsne(points: NDArray[Any]) -> NDArray[np.float32]:
    """t-SNE of all points [M P]; principal components if the points are few or equal."""
    from sklearn.manifold import TSNE

    if len(points) < 8 or (points == points[0]).all():
        return Plane.of(torch.from_numpy(points)).places(torch.from_numpy(points)).numpy()
    perplexity = min(30.0, (len(points) - 1) / 3)
    start = "pca" if points.shape[1] > 1 else "random"
    flat = TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(points)
    low, high = flat.min(0), flat.max(0)
    half = max(float((high - low).max()) / 2, 1e-9)
    return ((flat - (low + high) / 2) / half).astype(np.float32)


@final
class InBackground:
    """t-SNE of a corpus on its own thread."""

    def __init__(self) -> None:
        self.points: NDArray[np.float32] | None = None
        self.state: Literal["none", "working", "ready", "failed"] = "none"
        self.done = 0
        self._lock = threading.Lock()

    def start(self, mean: Tensor) -> None:
        """Start, unless already started."""
        with self._lock:
            if self.state in ("working", "ready"):
                return
            self.state, self.done = "working", 0
        threading.Thread(target=self._run, args=(mean,), name="t-SNE", daemon=True).start()

    def take(self, points: NDArray[np.float32]) -> None:
        """Take over what was found before, [N 2]."""
        self.points, self.state, self.done = points, "ready", len(points)

    def _run(self, mean: Tensor) -> None:
        try:
            self.points = tsne(mean, self._count)
            self.state = "ready"
        except BaseException:
            self.state = "failed"
            raise

    def _count(self, done: int) -> None:
        self.done += done

    def status(self, total: int) -> dict[str, Any]:
        """Its part of GET /api/map."""
        marks = min(LANDMARKS, total) if self.state != "none" else 0
        return {"state": self.state, "done": self.done, "total": total, "landmarks": marks}
