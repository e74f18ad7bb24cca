"""Training of a picture VAE with a feature term outside its bound (Dosovitskiy & Brox 2016).

−log p(x|z) stays the pixel term of the bound. Evaluation calls ``forward``, which has no feature
term.
"""

from __future__ import annotations

import math

from isthmus.data.kind import sampled
from isthmus.models.base import LatentModel, TermsOutput
from isthmus.models.codec import Batch, Examples
from isthmus.models.pictures.comparators import REFERENCE, Distances, random_comparator
from isthmus.models.pictures.model import PictureModel


def training_distances(model: LatentModel, examples: Examples, seed: int) -> Distances:
    """Distances in a random network, in units of a sample of the training pictures."""
    assert isinstance(model, PictureModel)
    places = sampled(len(examples), REFERENCE, seed)
    levels = examples.collate(places, seed=seed)["targets"]
    pictures = model.values(levels).unflatten(-1, model.shape).cpu()
    return Distances(random_comparator(model.shape), pictures)


def with_features(model: LatentModel, batch: Batch, *, distances: Distances) -> TermsOutput:
    """As ``forward``, with D · ‖C(x̂) − C(x)‖² as the term ``feature``, [N]; an inference.

    x̂ is the mean or the median of p(x|z) at the draw of z, and D the number of values of a
    picture, so that the term has the size of −log p(x|z) in nats under unit variance.

    Args:
        model: of pictures.
        batch: ``targets`` [N D] and ``noise`` [N P].
        distances: see :func:`training_distances`.
    """
    assert isinstance(model, PictureModel)
    posterior, levels = model.posterior(batch), batch["targets"]
    z = posterior.rsample(noise=batch["noise"].unsqueeze(0))
    network = model.network(z)
    drawn = model.likelihood.values(network[0]).unflatten(-1, model.shape)
    real = model.values(levels).unflatten(-1, model.shape)
    feature = distances.feature(drawn, real)
    return TermsOutput(
        reconstruction=model.likelihood.losses(network, levels).sum(-1).mean(0),
        kl=posterior.kl(model.prior, z),
        posterior=posterior.detach().tensors,
        z=z[0].detach(),
        extra=model.extra_terms(z, batch) | {"feature": math.prod(model.shape) * feature},
    )
