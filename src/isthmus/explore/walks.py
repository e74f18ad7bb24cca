"""Walks in a latent space: functions of latents, or of a model and latents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import MixtureOfGaussians, Prior
from isthmus.models.base import LatentModel, evaluating, to_device, tokens_at_once
from isthmus.models.generation import Generation
from isthmus.progress import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

Path = Literal["lerp", "slerp"]
Clustering = Literal["kmeans", "gmm", "gmm-full", "ward"]


def likely_labels(model: LatentModel, texts: Sequence[Any]) -> list[str]:
    """The most probable label beside z of each text or picture; empty for a model without one."""
    if not model.config.label_beside:
        return []
    names = model.config.label_names
    return [names[place] for place in model.classify(texts).argmax(-1)]


def labels_between(ends: Sequence[str], positions: Sequence[float]) -> list[str]:
    """A label for each place of a walk from 0 to 1: the start's up to half-way, then the end's.

    Arguments:
        ends: both; empty for a model without labels, and so is the result.
        positions: 0 … 1.
    """
    return [ends[position > 0.5] for position in positions] if ends else []


def decode_as(
    model: LatentModel,
    z: Tensor,
    labels: Sequence[str],
    generation: Generation | None = None,
    progress: Progress = no_progress,
) -> list[Any]:
    """Texts or pictures for latents [N P], each under its own label, or all under one asked for.

    With guidance towards a label that is asked for, each text moves away from its own.

    Arguments:
        model: any model.
        z: [N P].
        labels: one for each latent; empty for a model without labels.
        generation: its label, if it has one, goes before all of these.
        progress: called with the number just done.
    """
    settings = Generation() if generation is None else generation
    asked_for = settings.label
    moved = asked_for is not None and settings.guidance != 1 and settings.against is None
    if not labels or settings.mixture or (asked_for is not None and not moved):
        return model.decode(z, settings, progress)
    texts = [""] * len(z)
    for place, label in enumerate(sorted(set(labels))):
        rows = [row for row, own in enumerate(labels) if own == label]
        # A seed of their own: texts of two labels must not share their draws.
        asked = replace(settings, label=asked_for or label, seed=settings.seed + place)
        if moved:
            away = {"guidance": 1.0} if label == asked_for else {"against": label}
            asked = replace(asked, **away)
        for row, text in zip(rows, model.decode(z[rows], asked, progress), strict=True):
            texts[row] = text
    return texts


def sample(
    model: LatentModel,
    count: int,
    seed: int = 0,
    generation: Generation | None = None,
    progress: Progress = no_progress,
    prior: Prior | None = None,
) -> list[Any]:
    """Texts or pictures of ``count`` latents from the prior; the latents are set by the seed.

    A label beside z is drawn from its prior as well, unless ``generation`` has one. Another
    prior, such as :func:`mixture_of`, can take the place of the model's own.
    """
    generator = torch.Generator().manual_seed(seed)
    z = (model.prior if prior is None else prior).sample(count, generator).detach().cpu()
    if generation is not None and (generation.label is not None or generation.mixture):
        return model.decode(z, generation, progress)
    return decode_as(model, z, model.sample_labels(count, generator), generation, progress)


@torch.no_grad()
def losses_under(model: LatentModel, examples: Sequence[Any], z: Tensor) -> Tensor:
    """−log p(x|z) of examples, each under its own latent: z [N P] → [N], nats, in main memory."""
    with evaluating(model):
        prepared = model.codec.prepare(examples)
        losses = torch.empty(len(z))
        for indices in prepared.batches(tokens_at_once(model)):
            batch = to_device(prepared.collate(indices), model.device)
            own = z[indices].to(model.device).unsqueeze(0)
            losses[indices] = model.reconstruction(own, batch)[0].float().cpu()
    return losses


def mixture_of(
    posterior: DiagonalGaussian, components: int = 16, seed: int = 0
) -> MixtureOfGaussians:
    """A mixture of diagonal Gaussians fitted to the aggregate posterior: a prior to sample from.

    By scikit-learn's expectation maximisation, from one draw of each posterior, of 5,000 of them
    at most, evenly chosen; a component has 20 draws at least on the average.

    Arguments:
        posterior: q(z|x) of a corpus, [N P].
        components: K at most.
        seed: of the draws and of the start.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    rows = torch.linspace(0, len(posterior) - 1, min(len(posterior), 5000)).long()
    part = posterior[rows]
    noise = torch.randn(1, *part.mean.shape, generator=torch.Generator().manual_seed(seed))
    points = part.rsample(noise=noise)[0].double().numpy()
    count = max(1, min(components, len(points) // 20))
    mixture = GaussianMixture(count, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        # Stopped after its 100 rounds it is a prior like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = mixture.fit(points)
    gaussians = DiagonalGaussian(
        torch.from_numpy(fitted.means_).float(),
        torch.from_numpy(np.log(fitted.covariances_)).float(),
    )
    return MixtureOfGaussians(gaussians, torch.from_numpy(np.log(fitted.weights_)).float())


def unwritten(model: LatentModel) -> tuple[int, ...]:
    """Tokens that stand for no words: all special ones but the end."""
    tokenizer, special = model.codec.decoder_tokenizer, model.codec.decoder_special
    return tuple(sorted(set(tokenizer.all_special_ids) - {special.end}))


def interpolate(start: Tensor, end: Tensor, steps: int, path: Path = "slerp") -> Tensor:
    """Latents from one to another, both ends included.

    Arguments:
        start: [P].
        end: [P].
        steps: points between the ends, ≥ 0.
        path: "lerp" is the straight line; "slerp" turns from one direction to the other and
            keeps the length between theirs (White 2016, arXiv 1609.04468), so that the way does
            not cut through the empty middle of a Gaussian.

    Returns:
        [steps + 2, P].
    """
    if steps < 0:
        raise IsthmusError(f"steps must be ≥ 0, got {steps}")
    return between(start, end, torch.linspace(0, 1, steps + 2, dtype=torch.double), path)


def between(start: Tensor, end: Tensor, places: Tensor, path: Path = "slerp") -> Tensor:
    """Latents at some places of such a walk: places [M] from 0, its start, to 1 → [M P]."""
    place = places.double().unsqueeze(1)
    first, last = start.double(), end.double()
    straight = torch.lerp(first, last, place)  # exact at both ends
    lengths = torch.lerp(first.norm(), last.norm(), place)
    cosine = torch.dot(first, last) / (first.norm() * last.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    # No circle is determined by equal or opposite directions, nor by the origin (NaN) with any.
    if path == "lerp" or not torch.sin(angle) > 1e-4:
        return straight.to(start)
    turned = torch.sin((1 - place) * angle) * first / first.norm()
    turned += torch.sin(place * angle) * last / last.norm()
    walk = (lengths * turned / torch.sin(angle)).to(start)
    walk[places == 0], walk[places == 1] = start, end  # exactly, not to rounding
    return walk


def analogy(a: Tensor, b: Tensor, c: Tensor, weight: float = 1.0) -> Tensor:
    """What is to ``c`` as ``b`` is to ``a``: z_c + weight · (z_b − z_a), any equal shapes."""
    return c + weight * (b - a)


def traverse(
    z: Tensor, dimension: int, spread: Tensor, steps: int = 7, reach: float = 3.0
) -> Tensor:
    """Copies of a latent that differ in one dimension.

    Arguments:
        z: [P].
        dimension: which, from 0.
        spread: standard deviation of every dimension of the aggregate posterior, [P]: the unit.
        steps: points, ≥ 2.
        reach: farthest distance from z on either side, in those units.

    Returns:
        [steps P].
    """
    if not 0 <= dimension < len(z):
        raise IsthmusError(f"dimension must lie between 0 and {len(z) - 1}, got {dimension}")
    if steps < 2:
        raise IsthmusError(f"steps must be ≥ 2, got {steps}")
    walk = z.repeat(steps, 1)
    walk[:, dimension] += torch.linspace(-reach, reach, steps) * spread[dimension]
    return walk


def neighbours(
    query: Tensor, corpus: Tensor, count: int = 5, spread: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The nearest latents.

    Arguments:
        query: [M P].
        corpus: [N P].
        count: how many for each query, at most N are given.
        spread: if given, distances are in units of it, [P].

    Returns:
        distances and indices, both [M count], nearest first.
    """
    if spread is not None:
        query, corpus = query / spread, corpus / spread
    # Not by matrix products, which leave rounding where the distance is zero.
    distances = torch.cdist(
        query.double(), corpus.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    nearest = distances.topk(min(count, len(corpus)), largest=False)
    return nearest.values, nearest.indices


def cluster(
    z: Tensor | NDArray[Any] | csr_array,
    clusters: int,
    method: Clustering = "kmeans",
    seed: int = 0,
    principal: int = 0,
) -> Sequence[int]:
    """A cluster for every latent or other feature vector [N P], by scikit-learn.

    Arguments:
        z: [N P]; k-means takes sparse features too.
        clusters: how many.
        method: k-means, the best of ten starts; Gaussian mixture with diagonal or with full
            covariances, from one start (full: Li et al. 2019); Ward's hierarchy.
        seed: of the starts; Ward's hierarchy has none.
        principal: cluster the first so many principal components (Li et al. 2019); 0 for all of z.

    Raises:
        IsthmusError: fewer latents than clusters, or fewer than principal components.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    count, size = z.shape
    if not 1 <= clusters <= count:
        raise IsthmusError(f"clusters must lie between 1 and {count} examples, got {clusters}")
    if not 0 <= principal <= min(count, size):
        raise IsthmusError(
            f"principal must lie between 0 and {min(count, size)} (the smaller of examples and "
            f"dimensions), got {principal}"
        )
    if clusters == 1:  # scikit-learn refuses a mixture or a hierarchy of one point
        return [0] * count
    points = z.double().numpy() if isinstance(z, Tensor) else z
    if principal:
        points = PCA(principal, random_state=seed).fit_transform(points)
    if method == "kmeans":
        found = KMeans(clusters, n_init=10, random_state=seed).fit_predict(points)
    elif method == "ward":
        found = AgglomerativeClustering(clusters).fit_predict(points)
    else:
        covariance = "full" if method == "gmm-full" else "diag"
        mixture = GaussianMixture(clusters, covariance_type=covariance, random_state=seed)
        found = mixture.fit_predict(points)
    return [int(label) for label in found]


@torch.no_grad()
def components(model: LatentModel, z: Tensor) -> Sequence[int]:
    """The component of the model's own mixture prior that every latent [N P] most likely is of.

    A mixture prior that was learnt with the model is a clustering that needs no other method
    (Dilokthanakul et al. 2016, arXiv 1611.02648; Jiang et al. 2017, arXiv 1611.05148).

    Raises:
        IsthmusError: the prior is no mixture.
    """
    prior = model.prior
    if not isinstance(prior, MixtureOfGaussians):
        raise IsthmusError(
            f"the clusters of a prior are its components, and this run's prior is of the kind "
            f"{model.config.prior}; fit a mixture with isthmus prior, or use another method"
        )
    found: list[int] = prior.log_joint(z.to(model.device)).argmax(-1).tolist()
    return found
