"""How training gets from a batch to its terms: one draw from q(z|x), or what settings ask for.

Another way is an :data:`~isthmus.models.base.Inference`; the trainer passes it to the model, and
knows no more of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from isthmus.latent.objective import Terms
from isthmus.models.base import Inference, LatentModel
from isthmus.models.codec import Examples
from isthmus.models.pictures.training import training_distances, with_features
from isthmus.settings import Settings
from isthmus.training.semi_amortised import semi_amortised


def make_inference(
    model: LatentModel,
    settings: Settings,
    examples: Examples,
    loss: Callable[[Terms], Tensor],
    device: torch.device,
) -> Inference | None:
    """With a feature term or semi-amortised, as the settings ask; None for ``forward`` as it is.

    Args:
        model: in training.
        settings: of the run.
        examples: of the training split.
        loss: the training loss of every example at the current step, [N].
        device: where the model is trained.
    """
    if settings.objective.feature:
        distances = training_distances(model, examples, settings.train.seed)
        distances.comparator.to(device)
        return partial(with_features, distances=distances)
    if steps := _ascent_steps(model, settings):
        rate = settings.train.semi_amortised_rate
        return partial(semi_amortised, loss=loss, steps=steps, learning_rate=rate)
    return None


def noise_shape(model: LatentModel, settings: Settings) -> tuple[int, ...]:
    """Shape of the noise that the inference reads for each example."""
    steps = _ascent_steps(model, settings)
    return (steps + 1, *model.latent_shape) if steps else model.latent_shape


def _ascent_steps(model: LatentModel, settings: Settings) -> int:
    """Steps that improve each posterior; a language model has none to improve."""
    return settings.train.semi_amortised if math.prod(model.latent_shape) else 0
