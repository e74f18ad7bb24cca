"""Text → q(z|x): any encoder of transformers, a pooling and a linear head."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from isthmus.errors import IsthmusError, in_one_line
from isthmus.latent.distribution import Posterior, precise
from isthmus.latent.pooling import POOLINGS, AttentionPool, Pooling

OTHER_ENCODER = "use another encoder, such as bert or modernbert"
"""The remedy for one that cannot be used."""


def encoder_from_config(config: PreTrainedConfig) -> PreTrainedModel:
    """A transformers encoder with fresh weights; of an encoder–decoder model, its encoder half."""
    with in_one_line(
        f"encoder: transformers cannot build a {config.model_type} of this size", OTHER_ENCODER
    ):
        model = AutoModel.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder else model


@final
class TextEncoder(nn.Module):
    """A stock encoder, pooled and projected to the numbers that describe a posterior.

    The head is one linear map without bias; its first rows give the mean.

    Args:
        model: the stock encoder.
        family: of the posteriors.
        latent_shape: (P,), or (K, P) for a grid of latents.
        pooling: "pooler" is the model's own (BERT: dense + tanh on the first token).

    Raises:
        IsthmusError: the model has no pooler, or the family no grids.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: type[Posterior],
        latent_shape: tuple[int, ...],
        pooling: Pooling,
    ) -> None:
        super().__init__()
        has_pooler = "pooler" in dict(model.named_children())
        if pooling == "pooler" and not has_pooler:
            raise IsthmusError(
                f"pooling: {type(model).__name__} has no pooler; "
                "use --model.encoder.pooling mean, first, last, max or attention"
            )
        if len(latent_shape) > 1 and not family.takes_grids:
            raise IsthmusError(
                f"posterior: {family.__name__} has no grid of {latent_shape[0]} latents; "
                "use diagonal"
            )
        if pooling != "pooler" and has_pooler:
            model.register_module("pooler", None)  # nothing reads it, so it would never train
        self.model = model
        self.pooling = pooling
        hidden_size = model.config.hidden_size
        self.pool = AttentionPool(hidden_size) if pooling == "attention" else None
        self.family, self.latent_shape = family, latent_shape
        self.latent_size = math.prod(latent_shape)
        self.head = nn.Linear(hidden_size, family.numbers(self.latent_size), bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @torch.no_grad()
    def start_head(self, scale: float) -> None:
        """Draw the rows of the posterior mean anew from N(0, scale²)."""
        nn.init.normal_(self.head.weight[: self.latent_size], std=scale)

    def forward(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Posterior:
        """q(z|x) of token ids [N T], or of embeddings [N T E], under a mask [N T]."""
        return self.posterior(self.pooled(attention_mask, input_ids, inputs_embeds))

    def posterior(self, pooled: Tensor, shift: Tensor | None = None) -> Posterior:
        """q(z|x) of pooled vectors [N H], its numbers shifted by what a label adds to them."""
        numbers = self.head(pooled)
        if shift is not None:
            numbers = precise(numbers) + shift
        return self.family.from_numbers(numbers, self.latent_shape)

    def pooled(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """One vector per text, [N H], of token ids [N T] or embeddings [N T E]."""
        if inputs_embeds is None:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        else:
            output = self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask)
        if self.pooling == "pooler":
            return output["pooler_output"]
        hidden = output["last_hidden_state"]
        if self.pool is not None:
            return self.pool(hidden, attention_mask)
        return POOLINGS[self.pooling](hidden, attention_mask)

    def random_embeddings(self, count: int, length: int) -> Tensor:
        """Input embeddings of random tokens [count length E]: where pseudo-inputs start."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        return weight[torch.randint(len(weight), (count, length))].detach().clone()
