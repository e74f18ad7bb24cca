"""Output layers of fresh decoders: an exact one at a fraction of the cost of a full softmax."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import precise
from isthmus.models.words import give_word_vectors

Output = Literal["softmax", "adaptive", "words"]
"""The model's own; :class:`AdaptiveOutput`; :class:`isthmus.models.words.WordOutput`, for the
setting model.decoder.word_vectors."""


@final
class AdaptiveOutput(nn.Module):
    """The adaptive softmax of Grave et al. 2017 (arXiv 1609.04309), by torch.

    The frequent words and two clusters of rare ones: p(word) = p(cluster) · p(word | cluster),
    exact over all V words. Training computes only the clusters that occur; rare words have
    narrower projections, so the model is also smaller. The vocabulary must be sorted by frequency,
    as those of the tokenizers that are trained on a corpus are.

    Args:
        hidden_size: H.
        vocabulary_size: V; the frequent words are a twentieth of it, and the first cluster ends
            at a fifth.
    """

    def __init__(self, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        cutoffs = [max(2, vocabulary_size // 20), max(4, vocabulary_size // 5)]
        # The rarest cluster is H / div² wide; of width 0 all its words would be equally probable.
        narrower = 4.0 if hidden_size >= 16 else 2.0 if hidden_size >= 4 else 1.0
        self.in_features = hidden_size
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            hidden_size, vocabulary_size, cutoffs, div_value=narrower
        )

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """Log-probabilities [... V] of hidden states [... H]; with targets [M] the losses [M]."""
        if targets is not None:
            return self._losses(hidden, targets)
        with torch.autocast(hidden.device.type, enabled=False):  # torch's layer mixes types
            flat = self.softmax.log_prob(hidden.flatten(0, -2).float())
            return flat.view(*hidden.shape[:-1], -1)

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """−log p(cluster) − log p(word | cluster); torch's layer cannot do it in bf16."""
        first, *rest = self.softmax.cutoffs
        edges = torch.tensor([first, *rest[:-1]], device=targets.device)
        cluster = torch.bucketize(targets, edges, right=True)
        heads = torch.where(cluster == 0, targets, first + cluster - 1)
        losses = _cross_entropy(self.softmax.head(hidden), heads)
        for place, tail in enumerate(self.softmax.tail):
            rows = (cluster == place + 1).nonzero().flatten()
            if len(rows):
                inside = targets[rows] - self.softmax.cutoffs[place]
                losses = losses.index_add(0, rows, _cross_entropy(tail(hidden[rows]), inside))
        return losses


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(precise(logits), targets, reduction="none")


def give_adaptive_output(model: PreTrainedModel) -> None:
    """Replace the output layer of a fresh model by an adaptive softmax.

    Raises:
        IsthmusError: the architecture changes its logits afterwards, which would spoil
            log-probabilities.
    """
    config = model.config
    changed = ("logit_scale", "logits_scaling", "final_logit_softcapping")
    if any(getattr(config, name, None) is not None for name in changed):
        raise IsthmusError(
            f"decoder.output: {config.model_type} rescales its logits, which does not go with "
            "an adaptive softmax; use --model.decoder.output softmax"
        )
    width = model.get_output_embeddings().weight.shape[1]
    output = AdaptiveOutput(width, config.vocab_size)
    if hasattr(config, "initializer_factor"):
        # T5: transformers would draw what it does not know at a standard deviation of 1, and
        # training would begin at a hundred nats a token.
        for part in output.modules():
            vars(part)["_is_hf_initialized"] = True
    model.set_output_embeddings(output)


def give_output(model: PreTrainedModel, output: Literal["adaptive", "words"]) -> None:
    """Give a fresh model with untied embeddings this output layer."""
    if output == "adaptive":
        give_adaptive_output(model)
    else:
        give_word_vectors(model)


@final
class Candidates(NamedTuple):
    """Part of a vocabulary, from which the softmax's denominator over all of it is estimated.

    The targets are all in it, and each of the S other tokens stands for (V − targets) / S of them:
    Ẑ = Σ_targets e^l + (V − targets) / S · Σ_sample e^l has the mean Z, and log Ẑ, on average, a
    little less than log Z. Which others is uniform at random, the same for all tokens of a batch
    (the sampled softmax of Jean et al. 2015, arXiv 1412.2007).
    """

    tokens: Tensor
    """Their ids, [R]."""
    log_weights: Tensor
    """What to add to their logits, [R]."""
    places: Tensor
    """Where in ``tokens`` each target is; 0 for none, [...]."""


def candidates(targets: Tensor, vocabulary_size: int, sample: int) -> Candidates | None:
    """The targets (≥ 0) and a sample of the other tokens; None if these would be all."""
    others = torch.ones(vocabulary_size, dtype=torch.bool, device=targets.device)
    others[targets[targets >= 0]] = False
    own, rest = (~others).nonzero().flatten(), others.nonzero().flatten()
    if len(rest) <= sample:
        return None
    drawn = rest[torch.randperm(len(rest), device=targets.device)[:sample]]
    log_weights = targets.new_zeros(len(own) + sample, dtype=torch.float32)
    log_weights[len(own) :] = math.log(len(rest) / sample)
    places = ((~others).cumsum(0) - 1).clamp_min(0)
    return Candidates(torch.cat([own, drawn]), log_weights, places[targets.clamp_min(0)])
