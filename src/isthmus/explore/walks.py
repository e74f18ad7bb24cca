"""Walks in a latent space: functions of latents, or of a model and latents."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from isthmus.data.batches import WINDOW
from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import Mixture
from isthmus.models.base import LatentModel, evaluating, in_batches, summarised
from isthmus.models.codec import short
from isthmus.models.generation import Generation
from isthmus.models.labels import label_set, labelled
from isthmus.models.text_model import TextModel, sample_labels
from isthmus.progress import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

TOP_P: Final = 0.8
"""Of samples of a model with a summary: their perplexity is near that of texts, and so is their
variety; see docs/log.md."""
Path = Literal["lerp", "slerp"]
Clustering = Literal["kmeans", "gmm", "gmm-full", "ward"]


def likely_labels(model: LatentModel, texts: Sequence[Any]) -> list[str]:
    """The most probable label of each text; empty for a model whose decoder reads none."""
    names = label_set(model).read_names
    return [names[place] for place in labelled(model).classify(texts).argmax(-1)] if names else []


def labels_between(ends: Sequence[str], positions: Sequence[float]) -> list[str]:
    """A label for each position of a walk: that of the start up to half-way, then that of the end.

    Args:
        ends: the two labels; if empty, the result is empty.
        positions: from 0 to 1.
    """
    return [ends[position > 0.5] for position in positions] if ends else []


def decode_as(
    model: LatentModel,
    z: Tensor,
    labels: Sequence[str],
    generation: Generation | None = None,
    progress: Progress = no_progress,
) -> list[Any]:
    """Texts or pictures for latents [N P], each under its own label or all under a requested one.

    With guidance towards a requested label, each text moves away from its own.

    Args:
        model: any model.
        z: [N P].
        labels: one for each latent; empty for a model without labels.
        generation: its label, if any, overrides these.
        progress: called with the number just done.
    """
    settings, made = Generation() if generation is None else generation, []
    for first in range(0, len(z), WINDOW):
        rows = slice(first, first + WINDOW)
        seeded = replace(settings, seed=settings.seed + first)
        made += _decode_window(model, z[rows], labels[rows], seeded, progress)
    return made


def _decode_window(
    model: LatentModel,
    z: Tensor,
    labels: Sequence[str],
    settings: Generation,
    progress: Progress,
) -> list[Any]:
    """What :func:`decode_as` does, with latents that share batches and a stream of draws."""
    asked_for = settings.label
    moved = asked_for is not None and settings.guidance != 1 and settings.against is None
    if not labels or settings.mixture or (asked_for is not None and not moved):
        return model.decode(z, settings, progress)
    texts = [""] * len(z)
    for place, label in enumerate(sorted(set(labels))):
        rows = [row for row, own in enumerate(labels) if own == label]
        # A seed per label: texts of two labels must not share their draws.
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
    """Texts or pictures of ``count`` latents from the prior; the seed determines the latents.

    A label that the decoder reads comes from its prior too, unless ``generation`` has one. Another
    prior, such as :func:`mixture_of`, can replace the model's own. See :func:`drawing` for how
    texts are written.
    """
    if not isinstance(model, LatentModel) or not isinstance(count, int) or count < 1:
        raise IsthmusError(
            f"sample: got {short(model)} and {count}, expected a model and a count ≥ 1"
        )
    generator = torch.Generator().manual_seed(seed)
    z = (model.prior if prior is None else prior).sample(count, generator).detach().cpu()
    generation = drawing(model, Generation(seed=seed) if generation is None else generation)
    if generation.label is not None or generation.mixture:
        return model.decode(z, generation, progress)
    return decode_as(model, z, sample_labels(model, count, generator), generation, progress)


def drawing(model: LatentModel, generation: Generation) -> Generation:
    """How samples are written: with a summary, which leaves words open, not greedily.

    The most probable text for a summary is short of words and repeats itself. So greedy settings
    become draws from the most probable tokens, 0.8 of the probability; ``top_k=1`` is greedy.
    """
    if not model.config.summary or generation.sample or generation.beams > 1:
        return generation
    return replace(generation, sample=True, top_p=TOP_P)


@torch.no_grad()
def losses_under(model: LatentModel, examples: Sequence[Any], z: Tensor) -> Tensor:
    """−log p(x|z) of examples, each under its own latent: z [N P] → [N], nats, in main memory."""
    with evaluating(model):
        prepared = model.read(examples)
        losses = torch.empty(len(z))
        for indices, batch in in_batches(model, prepared):
            own = z[indices].to(model.device).unsqueeze(0)
            losses[indices] = model.reconstruction(own, batch)[0].float().cpu()
    return losses


def mixture_of(posterior: Posterior, components: int = 16, seed: int = 0) -> Mixture:
    """A mixture of diagonal Gaussians fitted to the aggregate posterior: a prior to sample from.

    scikit-learn's expectation maximisation fits it to one draw from each posterior, at most 5,000,
    evenly chosen. There are on average at least 20 draws per component.

    Args:
        posterior: q(z|x) of a corpus, [N P] or [N K P].
        components: at most.
        seed: of the draws and of the start.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    rows = torch.linspace(0, len(posterior) - 1, min(len(posterior), 5000)).long()
    part = posterior[rows]
    noise = torch.randn(1, *part.mean.shape, generator=torch.Generator().manual_seed(seed))
    points = part.rsample(noise=noise)[0].flatten(1).double().numpy()
    count = max(1, min(components, len(points) // 20))
    mixture = GaussianMixture(count, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        # A fit stopped after 100 rounds is a valid prior too.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = mixture.fit(points)
    shape = (count, *part.mean.shape[1:])
    gaussians = DiagonalGaussian(
        torch.from_numpy(fitted.means_).float().view(shape),
        torch.from_numpy(np.log(fitted.covariances_)).float().view(shape),
    )
    return Mixture(gaussians, torch.from_numpy(np.log(fitted.weights_)).float())


def unwritten(model: TextModel) -> tuple[int, ...]:
    """Tokens that are not words: all special ones except the end."""
    tokenizer, special = model.codec.decoder_tokenizer, model.codec.decoder_special
    return tuple(sorted(set(tokenizer.all_special_ids) - {special.end}))


def interpolate(
    start: Tensor, end: Tensor, steps: int, path: Path = "slerp", summary: int = 0
) -> Tensor:
    """Latents from one to another, both ends included.

    Args:
        start: [P], or [K P].
        end: the same shape.
        steps: points between the ends, ≥ 0.
        path: "lerp" is the straight line; "slerp" rotates one direction to the other and
            interpolates the length (White 2016, arXiv 1609.04468), so that the path avoids the
            empty middle of a Gaussian. Each of K latents rotates by itself: a latent that both
            ends share stays as it is, and the length of each, which the decoder reads by itself,
            stays between those at the ends. A rotation of the K·P numbers as one vector would
            change shared latents too: half-way between ends at a right angle, by a factor of √2.
        summary: G, the latents of the model's summary: they walk. Details have no way between
            them, so those of the nearer end give way to the summary from the last to the first:
            at an end all are there, half-way none.

    Returns:
        [steps + 2, P], or [steps + 2, K, P].
    """
    if not isinstance(steps, int) or steps < 0:
        raise IsthmusError(f"steps must be ≥ 0, got {steps}")
    if path not in get_args(Path):
        raise IsthmusError(f"path: got {path!r}, expected {' or '.join(get_args(Path))}")
    places = torch.linspace(0, 1, steps + 2, dtype=torch.double)
    return between(start, end, places, path, summary)


def between(
    start: Tensor, end: Tensor, places: Tensor, path: Path = "slerp", summary: int = 0
) -> Tensor:
    """Latents at positions of such a walk: places [M] from 0, its start, to 1 → [M P]."""
    if 0 < summary < len(start):
        walk = between(start[:summary], end[:summary], places, path)
        near = [beginning(start[summary:], 1 - 2 * place) for place in places.tolist()]
        far = [beginning(end[summary:], 2 * place - 1) for place in places.tolist()]
        return torch.cat([walk, torch.stack(near) + torch.stack(far)], dim=1)
    if start.ndim > 1:
        rows = zip(start, end, strict=True)
        return torch.stack([between(one, other, places, path) for one, other in rows], dim=1)
    place = places.double().unsqueeze(1)
    first, last = start.double(), end.double()
    straight = torch.lerp(first, last, place)  # exact at both ends
    lengths = torch.lerp(first.norm(), last.norm(), place)
    cosine = torch.dot(first, last) / (first.norm() * last.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    # Equal or opposite directions determine no circle, nor does the origin (NaN).
    if path == "lerp" or not torch.sin(angle) > 1e-4:
        return straight.to(start)
    turned = torch.sin((1 - place) * angle) * first / first.norm()
    turned += torch.sin(place * angle) * last / last.norm()
    walk = (lengths * turned / torch.sin(angle)).to(start)
    walk[places == 0], walk[places == 1] = start, end  # exactly, not to rounding
    return walk


def beginning(details: Tensor, share: float) -> Tensor:
    """The first details [D P] of those in use, and zeros, which hide the others."""
    used = int(details.any(1).sum())  # those behind the end of the text have a mean of zero
    kept = math.ceil(max(share, 0.0) * used)
    return nn.functional.pad(details[:kept], (0, 0, 0, len(details) - kept))


def analogy(a: Tensor, b: Tensor, c: Tensor, weight: float = 1.0, summary: int = 0) -> Tensor:
    """a is to b as c is to the result: z_c + weight · (z_b − z_a), any equal shapes.

    Of latents whose first G = ``summary`` sum an example up the details are hidden afterwards.
    """
    return without_details(c + weight * (b - a), summary)


def without_details(z: Tensor, summary: int) -> Tensor:
    """Latents [... K P] with all but the first G = ``summary`` hidden; as they are for G = 0.

    A decoder that reads the details of a text writes that text, wherever its summary was moved.
    """
    if not summary:
        return z
    return nn.functional.pad(z[..., :summary, :], (0, 0, 0, z.shape[-2] - summary))


def exchange(a: Tensor, b: Tensor, latent: int) -> Tensor:
    """a [... K P] with one of its K latents, counted from 0, from b of the same shape."""
    if not 0 <= latent < a.shape[-2]:
        raise IsthmusError(f"latent must lie between 0 and {a.shape[-2] - 1}, got {latent}")
    mixed = a.clone()
    mixed[..., latent, :] = b[..., latent, :]
    return mixed


def exchanges(a: Tensor, b: Tensor, summary: int = 0) -> tuple[list[tuple[int, ...]], Tensor]:
    """a with each of its latents from b in turn.

    Args:
        a: [K P].
        b: the same shape.
        summary: G, the latents of the model's summary. They are exchanged together, with hidden
            details: beside those of a the summary would change nothing. Of the details, each that
            a or b has takes its turn.

    Returns:
        The places of the latents from b, of each of M rows, and the rows, [M K P]: a, a with each
        from b, and b.

    Raises:
        IsthmusError: there is only one latent, [P].
    """
    if a.ndim == 1:
        raise IsthmusError(
            "exchange: this model has one latent for each example, and with that of b it is b; "
            "expected several"
        )
    used = (a.any(1) | b.any(1)).nonzero().flatten().tolist() if summary else range(len(a))
    single = [place for place in used if place >= summary]
    places = [(), *((place,) for place in single), tuple(range(len(a)))]
    rows = [a, *(exchange(a, b, place) for place in single), b]
    if summary:
        places.insert(1, tuple(range(summary)))
        rows.insert(1, without_details(b, summary))
    return places, torch.stack(rows)


def traverse(
    z: Tensor, dimension: int, spread: Tensor, steps: int = 7, reach: float = 3.0
) -> Tensor:
    """Copies of a latent that differ in one dimension.

    Args:
        z: [P], or [K P].
        dimension: the one to change, from 0; dimension p of latent k is k · P + p.
        spread: the unit of each dimension, its standard deviation under q(z), [P] or [K · P].
        steps: number of copies, ≥ 2.
        reach: farthest distance from z on either side, in those units.

    Returns:
        [steps P], or [steps K P].
    """
    if not 0 <= dimension < z.numel():
        raise IsthmusError(f"dimension must lie between 0 and {z.numel() - 1}, got {dimension}")
    if steps < 2:
        raise IsthmusError(f"steps must be ≥ 2, got {steps}")
    walk = z.flatten().repeat(steps, 1)
    walk[:, dimension] += torch.linspace(-reach, reach, steps) * spread[dimension]
    return walk.view(steps, *z.shape)


def neighbours(
    query: Tensor, corpus: Tensor, count: int = 5, spread: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The nearest latents; the distance of K latents [N K P] is that of their K·P numbers.

    Args:
        query: [M P].
        corpus: [N P].
        count: neighbours per query, at most N.
        spread: unit of the distance in each dimension, [P]; 1 if absent.

    Returns:
        distances and indices, both [M count], nearest first.
    """
    query, corpus = query.flatten(1), corpus.flatten(1)
    if spread is not None:
        query, corpus = query / spread, corpus / spread
    # Matrix products would leave rounding errors in distances of zero.
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

    Args:
        z: [N P], or [N K P] as vectors of K·P numbers; k-means takes sparse features too.
        clusters: number of clusters.
        method: k-means, the best of ten starts; Gaussian mixture with diagonal or full
            covariances, from one start (full: Li et al. 2019); Ward's hierarchy.
        seed: of the starts; Ward's hierarchy has none.
        principal: cluster this many principal components (Li et al. 2019); 0 for all of z.

    Raises:
        IsthmusError: fewer latents than clusters, or fewer than principal components.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    points = z.flatten(1).double().numpy() if isinstance(z, Tensor) else z
    count, size = points.shape
    if method not in get_args(Clustering):
        raise IsthmusError(f"method: got {method!r}, expected {', '.join(get_args(Clustering))}")
    if not 1 <= clusters <= count:
        raise IsthmusError(f"clusters must lie between 1 and {count} examples, got {clusters}")
    if not 0 <= principal <= min(count, size):
        raise IsthmusError(
            f"principal must lie between 0 and {min(count, size)} (the smaller of examples and "
            f"dimensions), got {principal}"
        )
    if clusters == 1:  # scikit-learn refuses a mixture or a hierarchy of one point
        return [0] * count
    with equal_points():
        seed %= 2**32  # what scikit-learn takes
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


@contextmanager
def equal_points() -> Iterator[None]:
    """Equal examples make fewer clusters than asked for, which the result shows."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@torch.no_grad()
def components(model: LatentModel, z: Tensor) -> Sequence[int]:
    """The most probable component of the model's own mixture prior for every latent [N P].

    Of a model with two levels, for every summary [N G P].

    A mixture prior learned with the model clusters by itself (Dilokthanakul et al. 2016, arXiv
    1611.02648; Jiang et al. 2017, arXiv 1611.05148).

    Raises:
        IsthmusError: the prior is not a mixture.
    """
    with summarised(model):
        prior = model.prior
    if not isinstance(prior, Mixture):
        raise IsthmusError(
            f"the clusters of a prior are its components, and this run's prior is of the kind "
            f"{model.config.prior}; fit a mixture with isthmus prior, or use another method"
        )
    found: list[int] = prior.log_joint(z.to(model.device)).argmax(-1).tolist()
    return found
