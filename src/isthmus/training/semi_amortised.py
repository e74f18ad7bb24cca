"""Semi-amortised inference in training: the encoder proposes, gradient steps improve."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from isthmus.latent.ascent import ascend
from isthmus.latent.distribution import Posterior
from isthmus.latent.objective import Terms
from isthmus.models.base import LatentModel, TermsOutput
from isthmus.models.codec import Batch


def semi_amortised(
    model: LatentModel,
    batch: Batch,
    *,
    loss: Callable[[Terms], Tensor],
    steps: int,
    learning_rate: float,
) -> TermsOutput:
    """The terms under posteriors improved for each example; an inference of training.

    Decoder, bridge and prior learn at the improved posterior, held constant. The encoder learns
    from the loss at its own posterior; that gradient is the first slope of the ascent and costs no
    further pass. This is the first-order form (Krishnan et al. 2018). Differentiating through the
    steps instead (Kim et al. 2018, section 3) trains the encoder as a starting point for further
    steps and needs second derivatives of the decoder. Here the encoder must be good by itself,
    because everything after training reads its posterior.

    References:
        Kim et al. (2018), Semi-Amortized Variational Autoencoders, arXiv 1802.02550.
        Krishnan, Liang & Hoffman (2018), On the challenges of learning with inference networks on
        sparse, high-dimensional data, AISTATS.

    Args:
        model: in training.
        batch: with ``noise`` [N steps+1 P], one draw for every step and the last for the decoder.
        loss: the training loss of every example, [N].
        steps: of the ascent, ≥ 1; each costs a pass of the decoder, forward and backward.
        learning_rate: of the ascent.

    Returns:
        As ``forward``; a term of value zero in ``reconstruction`` carries the encoder's gradient.
    """
    start, prior = model.posterior(batch), model.prior
    noise = batch["noise"].transpose(0, 1).unsqueeze(1)  # [steps+1 1 N P]

    def loss_at(posterior: Posterior, step: int) -> Tensor:
        return loss(model.terms_under(posterior, prior, batch, noise[step]).terms)

    improved, slopes = ascend(start, loss_at, steps, learning_rate)
    output = model.terms_under(improved, prior, batch, noise[steps])
    pairs = zip(start.tensors, slopes, strict=True)
    parts = [(tensor * slope).flatten(1).sum(-1) for tensor, slope in pairs]
    guide = sum(parts[1:], parts[0])
    output.reconstruction = output.reconstruction + (guide - guide.detach())
    return output
