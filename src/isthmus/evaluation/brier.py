"""BrierLM: a score of language models that needs draws and no likelihood.

Shao et al. 2025 (CALM, arXiv 2510.27688, section 4). The Brier score of a forecast P for the
outcome y is 2 P(y) − Σ_x P(x)², which the true distribution maximises. With two independent draws
x₁ and x₂ from P, 1[x₁ = y] + 1[x₂ = y] − 1[x₁ = x₂] estimates it without bias. Brier-n takes the
next n tokens as one outcome; BrierLM = 100 (Π_n Brier-n)^¼, n from 1 to 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.causal import CausalFlow
from isthmus.models.base import LatentModel, evaluating, in_batches
from isthmus.models.codec import Batch, TextExamples
from isthmus.models.feed_forward import FeedForwardConfig
from isthmus.models.language import LanguageModel
from isthmus.models.optimus import OptimusModel
from isthmus.models.text_model import TextModel
from isthmus.progress import Progress, no_progress

LONGEST = 4
"""Tokens of the longest n-gram, and between two places where draws begin."""
_RESAMPLES = 200


def forecasts(model: LatentModel) -> bool:
    """Whether tokens can be drawn given those before them: chunks under their language model.

    A plain language model as well. Other VAEs know p(x), but not p(x_t|x_<t).
    """
    if not isinstance(model, TextModel) or model.labels is not None:
        return False
    return isinstance(model, LanguageModel) or _reads_chunks(model)


def _reads_chunks(model: LatentModel) -> bool:
    return (
        isinstance(model, OptimusModel)
        and model.config.pooling == "blocks"
        and model.config.bridge == "aligned"
        and isinstance(model.decoder.model.config, FeedForwardConfig)
        and model.config.bridge_length % LONGEST == 0
        and isinstance(model.prior, CausalFlow)
    )


@torch.no_grad()
def brier_metrics(
    model: LatentModel, examples: TextExamples, seed: int = 0, progress: Progress = no_progress
) -> dict[str, Any]:
    """BrierLM and Brier-1 to Brier-4, with standard errors over texts.

    Two draws begin behind every c tokens of a text, its own tokens before them: c = 4 for a
    language model, the length of a chunk for chunks. A plain language model can so be compared
    with chunks of 4 tokens on the same places. n-grams that would pass the end are left out.

    Args:
        model: one that :func:`forecasts`.
        examples: texts.
        seed: of the draws.
        progress: called with the number just done.
    """
    assert isinstance(model, TextModel)
    generator = torch.Generator().manual_seed(seed)
    sums, counts = [], []
    with evaluating(model):
        for _, batch in in_batches(model, examples, progress):
            draws, target = _forecast(model, batch, generator)
            scores, there = brier_scores(draws, target)
            sums.append(scores.sum(1).cpu())
            counts.append(there.sum(1).cpu())
    return brier_lm(torch.cat(sums).double(), torch.cat(counts).double())


def brier_scores(draws: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The unbiased estimates of Brier-1 to Brier-c, 0 where the target has no n tokens.

    Args:
        draws: two independent draws of c tokens, [2 … c].
        target: the tokens, −100 behind the end of a text, [… c].

    Returns:
        The estimates, and whether there is one, [… c].
    """
    first, second = draws
    there = target >= 0

    def agree(a: Tensor, b: Tensor) -> Tensor:
        return (a == b).long().cumprod(-1)

    scores = agree(first, target) + agree(second, target) - agree(first, second)
    return scores * there, there


def brier_lm(sums: Tensor, counts: Tensor) -> dict[str, Any]:
    """The figures of N texts, from sums of estimates and their numbers, [N 4] each.

    The error of BrierLM is that of a bootstrap over texts. A negative estimate of a Brier-n counts
    as 0, and so does BrierLM then.
    """
    metrics: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(sums), (_RESAMPLES, len(sums)), generator=generator)

    def score(total: Tensor, number: Tensor) -> Tensor:
        return 100 * (total / number.clamp_min(1)).clamp_min(0).prod(-1) ** (1 / LONGEST)

    drawn = torch.stack([score(sums[some].sum(0), counts[some].sum(0)) for some in rows])
    error = drawn.std().item() if len(sums) > 1 else None
    value = score(sums.sum(0), counts.sum(0)).item()
    put(metrics, "brier_lm", Estimate(value, error, len(sums)))
    for place in range(LONGEST):
        found = Estimate.ratio_of(sums[:, place], counts[:, place])
        put(metrics, f"brier_{place + 1}", found)
    return metrics


def _forecast(model: TextModel, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two draws [2 N K 4] of the tokens behind every place, and the tokens themselves [N K 4]."""
    if isinstance(model, OptimusModel):
        length, draws = model.config.bridge_length, _of_chunks(model, batch, generator)
    else:
        length, draws = LONGEST, _of_language_model(model, batch, generator)
    target = _chunks(batch["targets"], length, -100)
    # Behind its end token a draw says nothing, and two that agree so far agree.
    ends = torch.eq(draws, -1 if (end := model.decoder.special.end) is None else end).long()
    draws = draws.masked_fill(ends.cumsum(-1) > ends, -1)
    return draws[..., :LONGEST], target[..., :LONGEST]


def _chunks(tokens: Tensor, length: int, filler: int) -> Tensor:
    """[… T] → [… K length]."""
    missing = -tokens.shape[-1] % length
    padded = torch.nn.functional.pad(tokens, (0, missing), value=filler)
    return padded.unflatten(-1, (-1, length))


def _of_chunks(model: OptimusModel, batch: Batch, generator: torch.Generator) -> Tensor:
    """z_<k from q(z|x), z_k from p(z_k|z_<k), the tokens of the chunk from p(x_k|z_k)."""
    prior = model.prior
    assert isinstance(prior, CausalFlow)
    posterior = model.posterior(batch)
    noise = torch.randn(3, *posterior.mean.shape, generator=generator).to(posterior.mean)
    z = posterior.rsample(noise=noise[:1])[0].repeat(2, 1, 1)
    following = prior.following(z, noise[1:].flatten(0, 1))
    ids = batch["decoder_input_ids"].repeat(2, 1)
    hidden = model.decoder.hidden(model.conditioning(following), ids)
    tokens = _draw(model.decoder.logits(hidden.flatten(0, 1)), generator).view(ids.shape)
    return _chunks(tokens, model.config.bridge_length, -1).unflatten(0, (2, -1))


def _of_language_model(model: TextModel, batch: Batch, generator: torch.Generator) -> Tensor:
    """Token by token behind each place."""
    ids = batch["decoder_input_ids"].repeat(2, 1)
    places = range(0, ids.shape[1], LONGEST)
    given = model.conditioning(ids.new_zeros(len(ids), 0, dtype=torch.float32))
    drawn = []
    for place in places:
        text = ids[:, : place + 1]
        for _ in range(LONGEST):
            hidden = model.decoder.hidden(given, text)[:, -1]
            token = _draw(model.decoder.logits(hidden), generator)
            text = torch.cat([text, token.unsqueeze(1)], 1)
        drawn.append(text[:, place + 1 :])
    return torch.stack(drawn, 1).unflatten(0, (2, -1))


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A token from each row of logits [M V]."""
    probabilities = logits.softmax(-1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)
