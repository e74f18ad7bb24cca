"""What is measured of pictures where texts have perplexities and BLEU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.base import LatentModel
from isthmus.models.codec import Examples
from isthmus.models.pictures.codec import PictureExamples
from isthmus.progress import Progress


def bits_metrics(measured: Bounds, examples: Examples) -> dict[str, Any]:
    """``bits_per_dimension`` = nll_iw / (D ln 2), and D = ``dimensions``, values of a picture."""
    dimensions = int(examples.lengths[0])
    bits = Estimate.mean_of(measured.nll_iw / (dimensions * math.log(2)))
    return {
        "dimensions": dimensions,
        "bits_per_dimension": bits.value,
        "bits_per_dimension_se": bits.standard_error,
    }


def returned_metrics(
    model: LatentModel,
    measured: Bounds,
    examples: Examples,
    pictures: int,
    progress: Progress,
) -> dict[str, Any]:
    """``squared_error`` of what is decoded from the posterior mean, of values scaled to 0 … 1.

    It is a mean over the values of the first so many pictures as they were given (grey, also where
    the model saw them binary): a number to compare reconstructions by, and no likelihood.
    """
    assert isinstance(examples, PictureExamples)
    count = min(pictures, len(examples))
    back = np.stack(model.decode(measured.posterior.mean[:count], progress=progress))
    given = examples.pictures[:count]
    difference = torch.from_numpy((back.astype(np.float64) - given) / 255)
    error = Estimate.mean_of(difference.square().flatten(1).mean(1))
    return {
        "decoded": count,
        "squared_error": error.value,
        "squared_error_se": error.standard_error,
    }
