"""Learning rates of parts of a model."""

from __future__ import annotations

import torch
from torch import nn


def rate_embeddings(optimizer: torch.optim.Optimizer, model: nn.Module, factor: float) -> None:
    """Let the tables of embeddings learn at ``factor`` times the rate of everything else.

    A batch holds few of the tokens, so that most rows move seldom, while each step moves every
    weight of the layers.
    """
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    for group in list(optimizer.param_groups):
        chosen = [parameter for parameter in group["params"] if id(parameter) in tables]
        if chosen:
            group["params"] = [p for p in group["params"] if id(p) not in tables]
            optimizer.add_param_group({**group, "params": chosen, "lr": factor * group["lr"]})
