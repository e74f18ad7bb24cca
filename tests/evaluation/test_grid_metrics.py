"""What each of K latents holds: its KL, and the swap of it alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from isthmus.data.kind import sampled
from isthmus.evaluation.likelihood import bounds, latent_swaps
from isthmus.evaluation.metrics import evaluate
from isthmus.models.conditioning import Conditioning
from isthmus.models.optimus import OptimusModel
from tiny import TEXTS, grid, system


def means_of(columns):
    columns = columns.double()
    errors = columns.std(0) / math.sqrt(len(columns))
    return columns.mean(0).tolist(), errors.tolist()


def test_kl_of_each_latent():
    model = system("grid")
    examples = model.codec.prepare(TEXTS)
    metrics = evaluate(model, examples, samples=2, texts=0)
    mean, variance = (model.encode(TEXTS).mean, model.encode(TEXTS).log_variance.exp())
    kl = 0.5 * (mean.square() + variance - variance.log() - 1).sum(-1)
    values, errors = means_of(kl)
    assert metrics["kl_per_latent"] == pytest.approx(values, rel=1e-5)
    assert metrics["kl_per_latent_se"] == pytest.approx(errors, rel=1e-4)
    assert math.fsum(metrics["kl_per_latent"]) == pytest.approx(metrics["kl"], rel=1e-6)
    assert (metrics["latents"], metrics["latent_size"]) == (2, 6)
    assert "kl_per_latent" not in evaluate(system("gpt2-memory"), examples, samples=1, texts=0)


class FirstOnly(torch.nn.Module):
    """A bridge to a decoder that reads the first latent only."""

    def __init__(self, bridge):
        super().__init__()
        self.bridge = bridge

    def forward(self, z) -> Conditioning:
        first = torch.zeros_like(z)
        first[:, 0] = z[:, 0]
        return self.bridge(first)


def test_the_swap_of_the_only_latent_that_is_read_is_the_whole_swap_gap():
    model = copy.deepcopy(system("grid"))
    assert isinstance(model, OptimusModel)
    model.bridge = FirstOnly(model.bridge)
    metrics = evaluate(model, model.codec.prepare(TEXTS), samples=2, texts=0, seed=3)
    first, second = metrics["swap_gap_per_latent"]
    assert first == pytest.approx(metrics["swap_gap"], abs=1e-5)
    assert abs(first) > 0.01
    assert second == pytest.approx(0, abs=1e-5)
    assert metrics["swap_gap_per_latent_se"][0] == pytest.approx(metrics["swap_gap_se"], abs=1e-5)


@pytest.mark.parametrize("model", [system("grid"), grid("gpt2", "prefix")])
def test_swaps_by_hand(model):
    examples = model.codec.prepare(TEXTS)
    measured = bounds(model, examples, samples=1, seed=5)
    swaps = latent_swaps(model, examples, measured, seed=5)
    batch = examples.collate(range(len(TEXTS)))
    # The other one of each example, found by the loss under its whole z.
    losses = torch.stack(
        [model.reconstruction(z.expand_as(measured.z).unsqueeze(0), batch)[0] for z in measured.z]
    )
    other = (losses - measured.swapped).abs().argmin(0)
    assert (other != torch.arange(len(TEXTS))).all()
    for latent in range(2):
        z = measured.z.clone()
        z[:, latent] = z[other, latent]
        expected = model.reconstruction(z.unsqueeze(0), batch)[0].double()
        rise = expected - measured.own
        torch.testing.assert_close(swaps[latent], rise, rtol=1e-5, atol=1e-5)
        few = latent_swaps(model, examples, measured, seed=5, at_most=3)[latent]
        chosen = sampled(len(TEXTS), 3, 5)
        torch.testing.assert_close(few, rise[chosen], rtol=1e-5, atol=1e-5)


def test_figures_that_do_not_exist_are_null():
    model = system("grid")
    metrics = evaluate(model, model.codec.prepare(TEXTS[:1]), samples=1, texts=0)
    assert metrics["swap_gap_per_latent"] is metrics["swap_gap_per_latent_se"] is None
    assert metrics["kl_per_latent_se"] == [None, None]
