"""Loops over stock transformers models, as anybody would write them, to time Isthmus with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache, PreTrainedModel

SIDE = 1024
"""Of the square matrices whose product is the peak of a machine."""


class StockVAE(nn.Module):
    """Encoder, mean over tokens, a Gaussian; z as a slot of memory and added to the embeddings.

    Args:
        encoder: as transformers makes it.
        decoder: with a language model's head.
        latent_size: P.
    """

    def __init__(
        self, encoder: PreTrainedModel, decoder: PreTrainedModel, latent_size: int
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        config = decoder.config
        self.layers = config.num_hidden_layers
        self.heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        self.size = config.hidden_size // config.num_attention_heads
        self.head = nn.Linear(encoder.config.hidden_size, 2 * latent_size)
        self.memory = nn.Linear(latent_size, self.layers * self.heads * self.size, bias=False)
        self.embedding = nn.Linear(latent_size, config.hidden_size, bias=False)

    def conditioned(self, z: Tensor) -> tuple[DynamicCache, Tensor]:
        """A cache that holds the memory of z [N P], and what is added to embeddings."""
        cache = DynamicCache(config=self.decoder.config)
        slots = self.memory(z).view(len(z), self.layers, self.heads, 1, self.size)
        for layer in range(self.layers):
            cache.update(slots[:, layer], slots[:, layer], layer)
        return cache, self.embedding(z).unsqueeze(1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """−ELBO, a mean over the texts."""
        mask = batch["attention_mask"]
        hidden = self.encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        mean, log_variance = (
            self.head((hidden * weights).sum(1) / weights.sum(1)).float().chunk(2, -1)
        )
        z = mean + batch["noise"] * (0.5 * log_variance).exp()
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        cache, added = self.conditioned(z)
        embedded = self.decoder.get_input_embeddings()(batch["decoder_input_ids"]) + added
        output = self.decoder(inputs_embeds=embedded, past_key_values=cache)
        logits = output.logits.flatten(0, 1).float()
        losses = functional.cross_entropy(logits, batch["targets"].flatten(), reduction="sum")
        return losses / len(mask) + kl.mean()

    @torch.no_grad()
    def greedy(self, z: Tensor, start: int, tokens: int) -> Tensor:
        """Ids [N T] of the most probable next tokens, by the cache."""
        cache, added = self.conditioned(z)
        ids = torch.full((len(z), 1), start)
        for _ in range(tokens):
            embedded = self.decoder.get_input_embeddings()(ids[:, -1:]) + added
            logits = self.decoder(inputs_embeds=embedded, past_key_values=cache).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        return ids[:, 1:]


def stock_of(model: Any, latent_size: int) -> StockVAE:
    """A stock model of the configurations of one of ours, freshly drawn."""
    parts = []
    for kind, part in (
        (AutoModel, model.encoder.model),
        (AutoModelForCausalLM, model.decoder.model),
    ):
        config = type(part.config).from_dict(part.config.to_dict())
        parts.append(kind.from_config(config, attn_implementation="sdpa"))
    return StockVAE(*parts, latent_size)


def picture_loss(
    levels: Tensor, hidden: int, latent_size: int, count: int
) -> tuple[Callable[[int], Tensor], list[nn.Parameter]]:
    """−ELBO of a VAE of pictures with one hidden layer on either side, binarised anew each time.

    Args:
        levels: grey values of all pictures, [N D], of 0 to 255.
        hidden: width of the layer.
        latent_size: P.
        count: pictures in a batch.
    """
    pixels = levels.shape[1]
    encoder, decoder = (
        nn.Sequential(nn.Linear(first, hidden), nn.SiLU(), nn.Linear(hidden, last))
        for first, last in ((pixels, 2 * latent_size), (latent_size, pixels))
    )
    grey = levels.float() / 255

    def loss(_: int) -> Tensor:
        x = torch.bernoulli(grey[torch.randint(len(grey), (count,))])
        mean, log_variance = encoder(2 * x - 1).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        given = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (given + kl) / count

    return loss, [*encoder.parameters(), *decoder.parameters()]


def stepping(
    loss: Callable[[int], Tensor],
    parameters: Sequence[nn.Parameter],
    bf16: bool = False,
    clip: float = 1.0,
) -> Callable[[int], float]:
    """A plain loop: a function that does so many steps, and gives their processor seconds.

    Args:
        loss: of the batch with that number.
        parameters: trained by AdamW.
        bf16: autocast the forward pass.
        clip: largest norm of the gradients; 0 for any.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def run(steps: int) -> float:
        begun = time.process_time()
        for step in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                value = loss(step)
            value.backward()
            if clip:
                nn.utils.clip_grad_norm_(trained, clip)
            optimiser.step()
            optimiser.zero_grad()
        return time.process_time() - begun

    return run


def peak(bf16: bool) -> float:
    """FLOP a second of one large product."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    matrix = torch.randn(SIDE, SIDE).to(dtype)
    times = []
    for _ in range(4):
        begun = time.process_time()
        matrix @ matrix
        times.append(time.process_time() - begun)
    return 2 * SIDE**3 / min(times)


def operations(work: Callable[[int], Tensor], backward: bool = True) -> int:
    """FLOP of the products in a step, or in its forward pass."""
    with FlopCounterMode(display=False) as counter:
        given = work(0)
        if backward:
            given.backward()
    return counter.get_total_flops()
