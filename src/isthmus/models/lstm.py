"""The LSTM of the text-VAE literature, as encoder and as decoder.

In Bowman et al. 2016 (arXiv 1511.06349) z gives the decoder's first state and joins every input;
Li et al. 2019 (arXiv 1909.00868) take the cell state from z, and h = tanh(c). Both are bridges
here ("state", "input"); the network itself knows nothing of z.
"""

from typing import final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from isthmus.models.stateful import StatefulConfig, StatefulLanguageModel, StatefulNetwork


@strict
class LstmConfig(StatefulConfig):
    """Sizes of an LSTM."""

    model_type = "lstm"

    @property
    def state_size(self) -> int:
        """Width of the cell states of all layers, which a "state" bridge provides."""
        return self.num_hidden_layers * self.hidden_size


@final
class LstmNetwork(StatefulNetwork):
    """Embeddings and a unidirectional LSTM over them.

    Its states are the hidden and the cell states of all layers, [N L H] each.
    """

    config_class = LstmConfig
    config: LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.lstm = nn.LSTM(
            config.input_size,
            config.hidden_size,
            config.num_hidden_layers,
            batch_first=True,
            dropout=config.dropout if config.num_hidden_layers > 1 else 0.0,
        )
        self.post_init()

    def start(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        """States from a bridge's cell states [N L·H]: h₀ = tanh(c₀) (Li et al. 2019)."""
        cells = cell.unflatten(-1, (self.config.num_hidden_layers, self.config.hidden_size))
        return torch.tanh(cells), cells

    def run(
        self, inputs: Tensor, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Call torch's LSTM once; where autocast would fail, in the type of the weights."""
        device = inputs.device.type
        narrows = torch.is_autocast_enabled(device)
        if narrows and device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            narrows, inputs = False, inputs.to(self.dtype)
        before = None
        if states is not None:
            hidden, cell = (state.transpose(0, 1).contiguous().to(inputs) for state in states)
            before = (hidden, cell)
        with torch.autocast(device, enabled=narrows):
            output, (hidden, cell) = self.lstm(inputs, before)
        return output, (hidden.transpose(0, 1), cell.transpose(0, 1))


@final
class LstmLanguageModel(StatefulLanguageModel):
    """p(x) by an LSTM."""

    config_class = LstmConfig
    network = LstmNetwork


AutoConfig.register("lstm", LstmConfig)
AutoModel.register(LstmConfig, LstmNetwork)
AutoModelForCausalLM.register(LstmConfig, LstmLanguageModel)
