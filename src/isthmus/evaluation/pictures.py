"""What is measured of pictures alone: bits by the value, and the error of what comes back."""

from __future__ import annotations

import math
from typing import Any, final

from isthmus.data.kind import sampled
from isthmus.data.pictures import PictureCorpus
from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.measures import Effort, Measures, Metrics, squared_error
from isthmus.evaluation.usage import Estimate, put
from isthmus.models.base import LatentModel
from isthmus.models.pictures.codec import PictureExamples


@final
class PictureMeasures(Measures):
    """The measures of pictures."""

    def symbols(self, measured: Bounds, examples: PictureExamples) -> Metrics:
        """``bits_per_dimension`` = nll_iw / (D ln 2); D = ``dimensions``, values of a picture."""
        dimensions = int(examples.lengths[0])
        metrics: Metrics = {"dimensions": dimensions}
        bits = measured.nll_iw / (dimensions * math.log(2))
        put(metrics, "bits_per_dimension", Estimate.mean_of(bits))
        return metrics

    def returned(
        self, model: LatentModel, measured: Bounds, examples: PictureExamples, effort: Effort
    ) -> Metrics:
        """``squared_error`` of what is decoded from the posterior mean.

        The originals are the pictures as they were given: grey, also where the model saw them
        binary. It compares reconstructions and is no likelihood.
        """
        if not effort.texts:
            return {}
        places = sampled(len(examples), effort.texts, effort.seed)
        back = model.decode(measured.posterior.mean[places], progress=effort.progress)
        metrics: Metrics = {"decoded": len(places)}
        put(metrics, "squared_error", squared_error(examples.pictures[places], back))
        return metrics

    def passes(self, examples: PictureExamples, texts: int) -> int:
        """Reconstructions."""
        return min(texts, len(examples))

    def baseline(self, corpus: PictureCorpus) -> dict[str, Any]:
        """All values of each picture."""
        return {"values": corpus.pictures.reshape(len(corpus), -1) / 255}
