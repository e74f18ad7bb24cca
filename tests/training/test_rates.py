"""Embeddings learn at a rate of their own, which follows the same schedule."""

import torch
from torch import nn

from isthmus.training.rates import rate_embeddings
from trainers import weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.layer = nn.Linear(3, 5)
        self.layer.weight = self.table.weight  # tied: it is the table


def test_tables_and_what_is_tied_to_them_move_by_the_factor():
    torch.manual_seed(0)
    moved = {}
    for factor in (1.0, 3.0):
        model = Small()
        with torch.no_grad():
            model.table.weight.fill_(1)
            model.layer.bias.fill_(1)
        groups = [
            {"params": [model.table.weight], "weight_decay": 0.0},
            {"params": [model.layer.bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.Adam(groups, lr=0.01)
        rate_embeddings(optimizer, model, factor)
        halved = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        for _ in range(2):
            model.layer(model.table(torch.arange(5))).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            halved.step()
        moved[factor] = 1 - model.table.weight.mean().item(), 1 - model.layer.bias.mean().item()
    # Adam's first steps are its rate: 0.01, then half of it.
    torch.testing.assert_close(moved[3.0][0], 3 * moved[1.0][0], rtol=1e-3, atol=0)
    torch.testing.assert_close(moved[3.0][1], moved[1.0][1], rtol=1e-6, atol=0)
    torch.testing.assert_close(moved[1.0][1], 0.015, rtol=1e-3, atol=0)


def test_the_trainer_moves_embeddings_and_nothing_else_by_the_factor(make, tmp_path):
    runs = []
    for factor in (1.0, 3.0):
        train = {"steps": 1, "warmup": 0.0, "embedding_rate": factor}
        runs.append(weights(make(tmp_path / str(factor), count=16, train=train)))
    other = {name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])}
    tables = ("embeddings.weight", "wte.weight", "wpe.weight", "lm_head.weight")
    assert any(name.endswith("wte.weight") for name in other)
    assert any("word_embeddings" in name for name in other)
    assert all(name.endswith(tables) for name in other), other
