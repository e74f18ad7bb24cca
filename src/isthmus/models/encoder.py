"""Text → q(z|x): any transformers encoder, a pooling and a linear head."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from isthmus.errors import IsthmusError
from isthmus.latent.pooling import AttentionPool, Pooling, first_pool, max_pool, mean_pool
from isthmus.latent.posterior import DiagonalGaussian


def encoder_from_config(config: PreTrainedConfig) -> PreTrainedModel:
    """A transformers encoder with fresh weights; of an encoder–decoder model, its encoder half."""
    model = AutoModel.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder else model


@final
class TextEncoder(nn.Module):
    """A stock encoder, pooled and projected to the posterior's mean and log-variance.

    The head is one linear map without bias whose first half is the mean (Optimus' layout).

    Arguments:
        model: the stock encoder.
        latent_size: P.
        pooling: "pooler" is the model's own (BERT: dense + tanh on the first token).
    """

    def __init__(self, model: PreTrainedModel, latent_size: int, pooling: Pooling) -> None:
        super().__init__()
        has_pooler = "pooler" in dict(model.named_children())
        if pooling == "pooler" and not has_pooler:
            raise IsthmusError(
                f"pooling: {type(model).__name__} has no pooler; "
                "use --model.encoder.pooling mean, first, max or attention"
            )
        if pooling != "pooler" and has_pooler:
            model.pooler = None  # nothing would read it: stored, counted and never trained
        self.model = model
        self.pooling = pooling
        hidden_size = model.config.hidden_size
        self.pool = AttentionPool(hidden_size) if pooling == "attention" else None
        self.head = nn.Linear(hidden_size, 2 * latent_size, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @torch.no_grad()
    def start_head(self, scale: float) -> None:
        """Draw the rows of the posterior mean anew from N(0, scale²)."""
        mean_rows = self.head.weight[: len(self.head.weight) // 2]
        nn.init.normal_(mean_rows, std=scale)

    def forward(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> DiagonalGaussian:
        """q(z|x) [N P] of token ids [N T], or of embeddings [N T E], under a mask [N T]."""
        pooled = self.pooled(attention_mask, input_ids, inputs_embeds)
        return DiagonalGaussian(*self.head(pooled).chunk(2, dim=-1))

    def pooled(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """What the head reads, [N H], of the arguments of :meth:`forward`."""
        if inputs_embeds is None:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        else:
            output = self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask)
        return self._pooled(output, attention_mask)

    def _pooled(self, output: dict[str, Tensor], mask: Tensor) -> Tensor:
        if self.pooling == "pooler":
            return output["pooler_output"]
        hidden = output["last_hidden_state"]
        if self.pool is not None:
            return self.pool(hidden, mask)
        simple = {"mean": mean_pool, "max": max_pool, "first": first_pool}
        return simple[self.pooling](hidden, mask)

    def random_embeddings(self, count: int, length: int) -> Tensor:
        """Input embeddings of random tokens [count length E]: where pseudo-inputs start."""
        weight = self.model.get_input_embeddings().weight
        return weight[torch.randint(len(weight), (count, length))].detach().clone()
