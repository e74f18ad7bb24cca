"""Networks without context, of CALM's autoencoder (Shao et al. 2025, arXiv 2510.27688).

Each token goes through the same layers by itself. As an encoder with the pooling "blocks" such a
network sees of a text, for each latent, the tokens of that latent alone. As a decoder it reads no
token at all, only what the bridge gives for each place: with the bridge "aligned", p(x|z) is
Π_k Π_t p(x_t|z_k), all tokens of a chunk at once.
"""

from typing import final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from isthmus.models.stateful import StatefulConfig, StatefulLanguageModel, StatefulNetwork


@strict
class FeedForwardConfig(StatefulConfig):
    """Sizes of a network without context.

    Args:
        intermediate_size: width inside the layers; 0 for twice the hidden size.
    """

    model_type = "feed-forward"

    intermediate_size: int = 0


@final
class GatedLayer(nn.Module):
    """x + W (silu(G n(x)) ∘ U n(x)), n an RMS norm: Llama's layer (Shazeer 2020)."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(size)
        self.gate_and_up = nn.Linear(size, 2 * inner, bias=False)
        self.down = nn.Linear(inner, size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[... H] → [... H]."""
        gate, up = self.gate_and_up(self.norm(hidden)).chunk(2, -1)
        return hidden + self.down(silu(gate) * up)


@final
class FeedForwardNetwork(StatefulNetwork):
    """Embeddings and layers that see one place at a time; there is no state to carry."""

    config_class = FeedForwardConfig
    config: FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        inner = config.intermediate_size or 2 * size
        self.entry = nn.Linear(config.input_size, size)
        layers = (GatedLayer(size, inner) for _ in range(config.num_hidden_layers))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.RMSNorm(size)
        self.post_init()

    def run(
        self, inputs: Tensor, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Through all layers."""
        return self.norm(self.layers(self.entry(inputs))), ()


@final
class AnyToken(nn.Embedding):
    """One embedding for all V tokens, [1 E]: what is read says nothing of them."""

    def __init__(self, known: int, size: int) -> None:
        super().__init__(1, size)
        self.known = known

    def forward(self, input: Tensor) -> Tensor:
        """Ids [N T] → [N T E]."""
        return super().forward(torch.zeros_like(input))


@final
class FeedForwardLanguageModel(StatefulLanguageModel):
    """p(x_t) of each place by itself, whatever the tokens before it are."""

    config_class = FeedForwardConfig
    network = FeedForwardNetwork

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__(config)
        self.model.embeddings = AnyToken(
            config.vocab_size, config.embedding_size or config.hidden_size
        )


AutoConfig.register("feed-forward", FeedForwardConfig)
AutoModel.register(FeedForwardConfig, FeedForwardNetwork)
AutoModelForCausalLM.register(FeedForwardConfig, FeedForwardLanguageModel)
