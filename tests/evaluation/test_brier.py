"""BrierLM against its closed form, and the draws that it is made of."""

import copy

import pytest
import torch

from isthmus.evaluation.brier import (
    LONGEST,
    _forecast,
    brier_lm,
    brier_metrics,
    brier_scores,
    forecasts,
)
from isthmus.evaluation.metrics import evaluate
from isthmus.models.optimus import OptimusModel
from tiny import TEXTS, system

TRUE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double)
MODEL = torch.tensor([0.4, 0.4, 0.2], dtype=torch.double)


def test_estimates_are_unbiased_and_end_with_the_text():
    """Tokens of one distribution: Brier-n is 2 (Σ p q)^n − (Σ q²)^n."""
    generator = torch.Generator().manual_seed(0)
    count = 40_000

    def draw(p, *shape):
        flat = torch.multinomial(p, count * LONGEST, replacement=True, generator=generator)
        return flat.view(*shape, LONGEST)

    target = draw(TRUE, count)
    target[: count // 4, 2:] = -100  # a quarter of the texts end behind two tokens
    draws = torch.stack([draw(MODEL, count), draw(MODEL, count)])
    scores, there = brier_scores(draws, target)
    assert there.sum(0).tolist() == [count, count, 3 * count // 4, 3 * count // 4]
    found = brier_lm(scores.double(), there.double())
    exact = torch.tensor(
        [2 * (TRUE @ MODEL) ** n - (MODEL @ MODEL) ** n for n in range(1, LONGEST + 1)]
    )
    for n in range(1, LONGEST + 1):
        error = found[f"brier_{n}_se"]
        assert found[f"brier_{n}"] == pytest.approx(exact[n - 1].item(), abs=4 * error)
    expected = 100 * exact.prod().item() ** 0.25
    assert found["brier_lm"] == pytest.approx(expected, abs=4 * found["brier_lm_se"])


def test_the_error_of_brierlm_is_that_of_fresh_texts():
    generator = torch.Generator().manual_seed(1)

    def score():
        agreed = (torch.rand(400, LONGEST, generator=generator) < 0.4).double().cumprod(1)
        return brier_lm(agreed, torch.ones(400, LONGEST).double())

    found = [score() for _ in range(40)]
    spread = torch.tensor([one["brier_lm"] for one in found]).std().item()
    mean = torch.tensor([one["brier_lm_se"] for one in found]).mean().item()
    assert mean == pytest.approx(spread, rel=0.3)


def test_the_truth_is_the_best_forecast():
    target = torch.tensor([[1, 2, 3, 4]])
    same, there = brier_scores(target.expand(2, 1, 4), target)
    assert same.tolist() == [[1, 1, 1, 1]]
    wrong, _ = brier_scores(target.expand(2, 1, 4) + 1, target)
    assert wrong.tolist() == [[-1, -1, -1, -1]]
    assert there.all()


@torch.no_grad()
def test_draws_of_a_language_model_are_those_of_its_probabilities():
    """The first token of the first place, given the start alone."""
    model = system("language")
    batch = model.codec.prepare([max(TEXTS, key=len)] * 6000).collate(range(6000))
    draws, target = _forecast(model, batch, torch.Generator().manual_seed(0))
    tokens = batch["targets"][0].tolist()
    assert target[0].flatten().tolist()[: len(tokens)] == tokens
    assert target.shape[1] > 1
    nothing = torch.zeros(1, 0)
    for place in (0, 1):
        ids = batch["decoder_input_ids"][:1, : LONGEST * place + 1]
        logits = model.decoder.logits(model.decoder.hidden(model.conditioning(nothing), ids))
        p = logits[0, -1].double().softmax(-1)
        share = torch.bincount(draws[:, :, place, 0].flatten(), minlength=len(p)) / 12_000
        assert ((share - p).abs() < 5 * (p * (1 - p) / 12_000).sqrt() + 1e-9).all()


def test_chunks_under_their_language_model_have_the_score():
    plain = system("chunks")
    assert not forecasts(plain)
    config = copy.deepcopy(plain.config)
    config.prior, config.bridge_length = "calm", 4
    model = OptimusModel(config, codec=plain.codec).eval()
    assert forecasts(model)
    examples = model.codec.prepare(TEXTS)
    found = evaluate(model, examples, samples=2, texts=len(TEXTS))
    assert -100 <= found["brier_lm"] <= 100
    assert found["brier_1_se"] > 0
    own = brier_metrics(model, examples)
    assert own["brier_1"] == found["brier_1"]
