"""A VAE of pictures under a feature term beside its bound (Dosovitskiy & Brox 2016).

The bound stays what it is: −log p(x|z) is the pixel term, and what is added stands beside it in
training alone. Evaluation calls ``forward``, which knows no comparator.
"""

from __future__ import annotations

import math

from isthmus.models.base import LatentModel, TermsOutput
from isthmus.models.codec import Batch, Examples
from isthmus.models.pictures.comparators import REFERENCE, Distances, random_comparator
from isthmus.models.pictures.model import PictureModel


def training_distances(model: LatentModel, examples: Examples, seed: int) -> Distances:
    """Distances in a random network, in units of the first training pictures as they are read."""
    assert isinstance(model, PictureModel)
    places = range(min(len(examples), REFERENCE))
    levels = examples.collate(places, seed=seed)["targets"]
    pictures = model.values(levels).unflatten(-1, model.shape).cpu()
    return Distances(random_comparator(model.shape), pictures)


def with_features(model: LatentModel, batch: Batch, *, distances: Distances) -> TermsOutput:
    """As ``forward``, with D · ‖C(x̂) − C(x)‖² in its unit as ``feature``, [N].

    x̂ is what is decoded of the draw of z, the mean or the median of p(x|z), and D the number of
    values of a picture: so the term has the size of −log p(x|z) in nats under unit variance.

    Arguments:
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
    return TermsOutput(
        reconstruction=model.likelihood.losses(network, levels).sum(-1).mean(0),
        kl=posterior.kl(model.prior, z),
        posterior=posterior.detach().tensors,
        z=z[0].detach(),
        extra={"feature": math.prod(model.shape) * distances.feature(drawn, real)},
    )
