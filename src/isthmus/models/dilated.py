"""The dilated-CNN decoder of Yang et al. 2017 (arXiv 1702.08139).

How far it sees is a setting that decides how much a model has to learn from z: the fewer words a
decoder can look back on, the more of the text must come through the latent.
"""

from typing import Literal, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from isthmus.models.stateful import StatefulConfig, StatefulLanguageModel, StatefulNetwork

KERNEL = 3
"""Tokens that one convolution reads."""

DILATIONS: dict[str, tuple[int, ...]] = {
    "scnn": (1, 2, 4),
    "mcnn": (1, 2, 4, 8, 16),
    "lcnn": (1, 2, 4, 8, 16) * 2,
    "vlcnn": (1, 2, 4, 8, 16) * 3,
}
"""Dilation of each block: receptive fields of 15, 63, 125 and 187 tokens with a kernel of 3."""


@strict
class DilatedConfig(StatefulConfig):
    """Sizes of a dilated CNN.

    Args:
        preset: which dilations, see :data:`DILATIONS`; ``num_hidden_layers`` follows from it.
        internal_size: width inside the blocks; 0 for half the hidden size, as in the paper.
    """

    model_type = "dilated-cnn"

    preset: Literal["scnn", "mcnn", "lcnn", "vlcnn"] = "scnn"
    internal_size: int = 0

    @property
    def receptive_field(self) -> int:
        """Tokens that a prediction depends on: 1 + (kernel − 1) · Σ dilations."""
        return 1 + (KERNEL - 1) * sum(DILATIONS[self.preset])


@final
class DilatedBlock(nn.Module):
    """1×1 to the internal width, a causal dilated convolution, 1×1 back; residual.

    The paper normalises over the batch, which lets one text see another in a model that generates
    word by word; here each position is normalised by itself (layer normalisation).
    """

    def __init__(self, external: int, internal: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.memory = (KERNEL - 1) * dilation  # positions that the convolution looks back
        self.norm = nn.LayerNorm(external)
        self.narrow = nn.Linear(external, internal)
        self.convolution = nn.Conv1d(internal, internal, KERNEL, dilation=dilation)
        self.widen = nn.Linear(internal, external)

    def forward(self, hidden: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """[N T external] and the positions before it [N internal memory] → the same after it."""
        narrow = self.narrow(functional.relu(self.norm(hidden))).relu().transpose(1, 2)
        if past is None:
            past = narrow.new_zeros(len(narrow), narrow.shape[1], self.memory)
        seen = torch.cat([past.to(narrow), narrow], dim=2)
        convolved = self.convolution(seen).relu().transpose(1, 2)
        return hidden + self.widen(convolved), seen[..., seen.shape[2] - self.memory :]


@final
class DilatedNetwork(StatefulNetwork):
    """Embeddings, a 1×1 convolution over embedding ⊕ z, and a stack of blocks.

    Its states are the positions that the convolutions look back on, [N internal memory] per block.
    """

    config_class = DilatedConfig
    config: DilatedConfig

    def __init__(self, config: DilatedConfig) -> None:
        super().__init__(config)
        dilations = DILATIONS[config.preset]
        config.num_hidden_layers = len(dilations)
        internal = config.internal_size or config.hidden_size // 2
        self.entry = nn.Linear(config.input_size, config.hidden_size)
        self.blocks = nn.ModuleList(
            DilatedBlock(config.hidden_size, internal, dilation) for dilation in dilations
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def run(
        self, inputs: Tensor, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Through all blocks."""
        hidden = self.entry(inputs)
        after = []
        for place, block in enumerate(self.blocks):
            hidden, state = block(hidden, None if states is None else states[place])
            after.append(state)
        return functional.relu(self.norm(hidden)), tuple(after)


@final
class DilatedLanguageModel(StatefulLanguageModel):
    """p(x) by a dilated CNN."""

    config_class = DilatedConfig
    network = DilatedNetwork


AutoConfig.register("dilated-cnn", DilatedConfig)
AutoModel.register(DilatedConfig, DilatedNetwork)
AutoModelForCausalLM.register(DilatedConfig, DilatedLanguageModel)
