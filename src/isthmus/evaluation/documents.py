"""Figures of documents that were measured window by window."""

from __future__ import annotations

from isthmus.data.kind import sampled
from isthmus.evaluation.likelihood import Bounds
from isthmus.evaluation.measures import Effort, Metrics
from isthmus.evaluation.text import bleu, exact_match, reconstructions
from isthmus.evaluation.usage import Estimate, put
from isthmus.explore.documents import Windows
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextExamples


def document_metrics(
    model: LatentModel,
    measured: Bounds,
    examples: TextExamples,
    windows: Windows,
    effort: Effort,
) -> Metrics:
    """Nats per document, and what comes back of whole documents.

    A document is under the model as independent windows, each with its end: its bound is the sum
    of theirs. Standard errors are over documents, because windows of one document are alike.

    Args:
        model: Any model of texts.
        measured: The bounds of all windows.
        examples: The windows, prepared.
        windows: Which documents they belong to.
        effort: ``texts`` is the number of random documents to decode; 0 for none.
    """
    metrics: Metrics = {"documents": windows.documents[-1] + 1}
    terms = {
        "reconstruction": measured.reconstruction,
        "kl": measured.kl.flatten(1).sum(-1),
        "elbo": -measured.negative_elbo,
        "nll_iw": measured.nll_iw,
    }
    for name, nats in terms.items():
        put(metrics, f"document_{name}", Estimate.mean_of(windows.sums(nats.double())))
    if effort.texts and measured.z.numel():
        decoded, places = _sample(windows, effort.texts, effort.seed)
        whole = decoded.joined(examples.spelled(places))
        returned = reconstructions(model, measured, examples, places, effort.progress)
        back = decoded.joined(returned)
        put(metrics, "document_exact_match", exact_match(whole, back))
        put(metrics, "document_bleu", bleu(whole, back))
    return metrics


def _sample(windows: Windows, count: int, seed: int) -> tuple[Windows, list[int]]:
    """The windows of a random sample of documents, and their places among all windows."""
    chosen = sampled(windows.documents[-1] + 1, count, seed)
    number = {document: place for place, document in enumerate(chosen)}
    places = [place for place, one in enumerate(windows.documents) if one in number]
    texts = [windows.texts[place] for place in places]
    return Windows(texts, [number[windows.documents[place]] for place in places]), places


def passes(windows: Windows, texts: int, seed: int) -> int:
    """Windows that :func:`document_metrics` decodes, for a progress bar."""
    return len(_sample(windows, texts, seed)[1]) if texts else 0
