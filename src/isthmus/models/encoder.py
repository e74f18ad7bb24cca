"""Text → q(z|x): any encoder of transformers, a pooling and a linear head."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from isthmus.errors import IsthmusError, in_one_line
from isthmus.latent.distribution import Posterior, precise
from isthmus.latent.pooling import (
    POOLINGS,
    AttentionPool,
    Pooling,
    QueryPool,
    block_pool,
    has_tokens,
)
from isthmus.models.sentence import SentenceLayers, SentenceSettings

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

    The head is one linear map; its first rows give the mean. Where the pooling gives each of K
    latents a vector of its own ("queries", "blocks") all latents share the head, which has a bias
    then. A latent whose block has no token is N(0, I): it costs nothing, so K follows the length.
    A summary has a linear head of its own on one vector, pooled by attention over all tokens.

    Args:
        model: the stock encoder.
        family: of the posteriors.
        latent_shape: (P,), or (K, P) for a grid of latents.
        pooling: "own" is that of ``sentence``, "pooler" the model's own (BERT: dense + tanh on the
            first token), "given" no pooling: the vectors come with the texts.
        block: tokens that each latent reads if the pooling is "blocks".
        summary: G, latents at the head of the grid that sum the text up; the pooling is of the
            others.
        sentence: how a sentence-transformers encoder makes a vector, for the pooling "own".
        affine: whether the head has a bias for any pooling.

    Raises:
        IsthmusError: the model has no pooler, the family no grids, or a summary stands beside
            another pooling than "blocks".
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: type[Posterior],
        latent_shape: tuple[int, ...],
        pooling: Pooling,
        block: int = 1,
        summary: int = 0,
        sentence: SentenceSettings | None = None,
        affine: bool = False,
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
        if summary and (pooling != "blocks" or not summary < latent_shape[0]):
            raise IsthmusError(
                f"model.summary: got {summary} with model.encoder.pooling {pooling}, expected "
                "fewer than model.latents, whose others stand for the tokens; use "
                "--model.encoder.pooling blocks, or --model.summary 0"
            )
        if pooling != "pooler" and has_pooler:
            model.register_module("pooler", None)  # nothing reads it, so it would never train
        self.model = model
        self.pooling = pooling
        hidden_size = model.config.hidden_size
        self.sentence = SentenceLayers(sentence, hidden_size) if sentence is not None else None
        self.pool = AttentionPool(hidden_size) if pooling == "attention" else None
        self.family, self.latent_shape = family, latent_shape
        self.latent_size = math.prod(latent_shape)
        self.latents = latent_shape[0] if len(latent_shape) > 1 else 1
        self.summary = summary
        self.queries = QueryPool(self.latents, hidden_size) if pooling == "queries" else None
        self.block = block
        self.in_rows = pooling in {"queries", "blocks"}
        inputs = hidden_size * (block if pooling == "blocks" else 1)
        if self.sentence is not None:
            inputs = self.sentence.size
        self.mean_size = latent_shape[-1] if self.in_rows else self.latent_size
        biased = affine or self.in_rows or pooling == "given"
        self.head = nn.Linear(inputs, family.numbers(self.mean_size), bias=biased)
        nn.init.normal_(self.head.weight, std=0.02)
        if biased:
            nn.init.zeros_(self.head.bias)
        if summary:
            self.summary_pool = AttentionPool(hidden_size)
            numbers = family.numbers(summary * self.mean_size)
            self.summary_head = nn.Linear(hidden_size, numbers)
            nn.init.normal_(self.summary_head.weight, std=0.02)
            nn.init.zeros_(self.summary_head.bias)
        self.state_size = hidden_size if summary else inputs

    @torch.no_grad()
    def start_head(self, scale: float) -> None:
        """Draw the rows of the posterior mean anew from N(0, scale²)."""
        nn.init.normal_(self.head.weight[: self.mean_size], std=scale)

    def forward(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Posterior:
        """q(z|x) of token ids [N T], or of embeddings [N T E], under a mask [N T]."""
        pooled = self.pooled(attention_mask, input_ids, inputs_embeds)
        return self.posterior(pooled, attention_mask)

    def posterior(
        self, pooled: Tensor, attention_mask: Tensor, shift: Tensor | None = None
    ) -> Posterior:
        """q(z|x) of pooled vectors, its numbers shifted by what a label adds to them.

        Args:
            pooled: from :meth:`pooled`.
            attention_mask: [N T].
            shift: [N numbers].
        """
        if self.in_rows:
            return self._posterior_of_rows(pooled, attention_mask, shift)
        numbers = self.head(pooled)
        if shift is not None:
            numbers = precise(numbers) + shift
        return self.family.from_numbers(numbers, self.latent_shape)

    def state(self, pooled: Tensor) -> Tensor:
        """The vector that a label is predicted from, of what :meth:`pooled` gives: [N H]."""
        if self.summary:
            return pooled[:, 0, : self.state_size]
        return pooled.mean(1) if self.in_rows else pooled

    def _posterior_of_rows(
        self, pooled: Tensor, attention_mask: Tensor, shift: Tensor | None
    ) -> Posterior:
        numbers = self.head(pooled[:, 1:] if self.summary else pooled)
        if self.summary:
            whole = self._rows(self.summary_head(self.state(pooled)), self.summary)
            numbers = torch.cat([whole, numbers], dim=1)
        if shift is not None:
            numbers = precise(numbers) + self._rows(shift, self.latents)
        if self.queries is None:
            used = has_tokens(attention_mask, self.latents - self.summary, self.block)
            used = nn.functional.pad(used, (self.summary, 0), value=True)
            numbers = numbers * used.unsqueeze(-1)
        if len(self.latent_shape) == 1:
            numbers = numbers.squeeze(1)
        return self.family.from_numbers(numbers, self.latent_shape[-1:])

    def _rows(self, numbers: Tensor, latents: int) -> Tensor:
        """Numbers of a whole grid, the means of all latents first, as those of each latent."""
        each = numbers.unflatten(-1, (-1, latents, self.mean_size))
        return each.transpose(1, 2).flatten(2)

    def pooled(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """One vector per text of token ids [N T] or embeddings [N T E], [N H].

        One for each latent, [N K H], by "queries", and [N K block·H] by "blocks"; of a model with
        a summary, the first row is the summary's, with zeros up to that width.
        """
        if inputs_embeds is None:
            output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        else:
            given = inputs_embeds.to(self.model.dtype)
            output = self.model(inputs_embeds=given, attention_mask=attention_mask)
        if self.pooling == "pooler":
            return precise(output["pooler_output"])
        hidden = precise(output["last_hidden_state"])
        if self.sentence is not None:
            return self.sentence(hidden, attention_mask, prompted=inputs_embeds is None)
        if self.pooling == "blocks":
            rows = block_pool(hidden, attention_mask, self.latents - self.summary, self.block)
            if not self.summary:
                return rows
            whole = self.summary_pool(hidden, attention_mask)
            whole = nn.functional.pad(whole, (0, rows.shape[-1] - whole.shape[-1]))
            return torch.cat([whole.unsqueeze(1), rows], dim=1)
        if self.queries is not None:
            return self.queries(hidden, attention_mask)
        if self.pool is not None:
            return self.pool(hidden, attention_mask)
        return POOLINGS[self.pooling](hidden, attention_mask)

    def random_embeddings(self, count: int, length: int) -> Tensor:
        """Input embeddings of random tokens [count length E]: where pseudo-inputs start."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        rows = weight[torch.randint(len(weight), (count, length))].detach().clone()
        return precise(rows)
