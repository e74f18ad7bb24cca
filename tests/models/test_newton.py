"""The first step in closed form: scores, regression, shares of the KL, and what they bring."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.models.base import evaluating
from isthmus.models.bridges import build_bridge
from isthmus.models.conditioning import DecoderShape
from isthmus.models.newton import RIDGES, first_step, ridge, text_scores, texts_for, water_filling
from isthmus.models.optimus import OptimusModel
from isthmus.models.starting import START_KL, alone
from tiny import TEXTS, grid, loud, make

GENERATOR = torch.Generator().manual_seed(0)


def pretrained(
    architecture: str = "gpt2", texts: list[str] = TEXTS, latent_size: int = 3
) -> OptimusModel:
    """A model whose decoder counts as one that was trained before."""
    model = make(architecture, "output", texts=texts)
    config = copy.deepcopy(model.config)
    config.decoder_pretrained, config.latent_size = True, latent_size
    return loud(OptimusModel(config, codec=model.codec)).eval()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "lstm"])
def test_scores_are_gradients_of_what_the_bridge_adds(architecture):
    model = pretrained(architecture)
    batch = model.codec.prepare(TEXTS).collate(range(len(TEXTS)))
    given = model.conditioning(torch.zeros(len(TEXTS), 3))
    added = given.output.detach().requires_grad_()
    shifted = replace(given, output=added)
    ids, targets = batch["decoder_input_ids"], batch["targets"]
    losses = model.decoder.token_losses(shifted, ids, targets)
    each = [
        torch.autograd.grad(-loss, added, retain_graph=True)[0] for loss in losses[targets >= 0]
    ]
    tokens = torch.stack(each).sum(1)
    scores, fisher = text_scores(model, TEXTS)
    torch.testing.assert_close(scores.float(), sum(each))
    torch.testing.assert_close(fisher.float(), tokens.T @ tokens / len(TEXTS))


def test_a_decoder_held_in_bf16_gives_the_same_scores_but_for_rounding():
    model = pretrained("llama")
    scores, _ = text_scores(model, TEXTS)
    model.decoder.to(torch.bfloat16)
    rounded, _ = text_scores(model, TEXTS)
    assert 0 < (rounded - scores).norm() < 0.05 * scores.norm()


def test_the_regression_is_worth_what_texts_that_it_leaves_out_say():
    states = torch.randn(30, 4, generator=GENERATOR).double()
    wanted = states @ torch.randn(4, 3, generator=GENERATOR).double()
    wanted += 2 * torch.randn(30, 3, generator=GENERATOR).double()
    states, wanted = states - states.mean(0), wanted - wanted.mean(0)
    slopes, worth = ridge(states, wanted)
    scatter = states.T @ states
    worths = []
    for penalty in RIDGES:
        damped = scatter + penalty * scatter.trace() / 4 * torch.eye(4)
        left_out = []
        for place in range(30):
            others = torch.arange(30) != place
            # Of centred data: without a row, the means of the others are −row / 29.
            x, y = states[others], wanted[others]
            joined = torch.cat([torch.ones(29, 1).double(), x], dim=1)
            penalties = torch.block_diag(torch.zeros(1, 1), damped - scatter).double()
            fitted = torch.linalg.solve(joined.T @ joined + penalties, joined.T @ y)
            left_out.append(fitted[0] + states[place] @ fitted[1:])
        predicted = torch.stack(left_out)
        along, size = (predicted * wanted).sum(), predicted.square().sum()
        shrunk = along / size
        value = shrunk * along - shrunk**2 * size / 2
        worths.append((value.item() / 30, shrunk * torch.linalg.solve(damped, states.T @ wanted)))
    best = max(worths, key=lambda pair: pair[0])
    assert worth == pytest.approx(best[0])
    torch.testing.assert_close(slopes, best[1])


def test_noise_is_worth_nothing():
    states, wanted = (torch.randn(400, size, generator=GENERATOR).double() for size in (20, 5))
    _, worth = ridge(states - states.mean(0), wanted - wanted.mean(0))
    assert 0 <= worth < 0.05  # a regression that is not left out finds 20 · 5 / 800 = 0.125


def test_water_filling_shares_a_total_as_no_other_way_is_worth_more():
    variances = torch.tensor([3.0, 1.0, 0.5, 0.01], dtype=torch.double)

    def worth(rates):
        return ((1 - (-2 * rates).exp()) * variances / 2).sum(-1)

    for total in (0.1, 1.0, 4.0):
        rates = water_filling(variances, total)
        assert rates.sum().item() == pytest.approx(total)
        others = torch.distributions.Dirichlet(torch.ones(4)).sample((20_000,)).double() * total
        assert worth(others).max() <= worth(rates) + 1e-9


def test_a_step_makes_z_say_what_the_decoder_lacks():
    """Texts about two things: behind the step their bound beats the decoder as it is."""
    texts = [" ".join(["a b" if n % 2 else "c"] * (2 + n % 3)) for n in range(96)]
    model = pretrained(texts=texts)
    with torch.no_grad():
        model.bridge.linear.weight.zero_()
        model.bridge.linear.bias.zero_()
    examples = model.codec.prepare(texts)
    before = alone(model, examples)
    step = first_step(model, texts_for(model, texts))
    with evaluating(model):
        terms = model.terms(texts)
    gained = before - terms.reconstruction.double() - terms.kl.double().flatten(1).sum(1)
    assert gained.mean() > 3 * gained.std() / len(texts) ** 0.5 > 0
    assert step.texts == len(texts)
    assert step.gain > 0
    torch.testing.assert_close(step.kl, START_KL * 3, atol=1e-2, rtol=0)
    mean, log_variance = model.encoder.head(model.pooled(texts)).detach().chunk(2, dim=1)
    torch.testing.assert_close(mean.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    together = mean.var(0) + log_variance.exp().mean(0)  # the aggregate posterior is the prior
    torch.testing.assert_close(together, torch.ones(3), atol=1e-3, rtol=0)
    assert terms.kl.flatten(1).sum(1).mean().item() == pytest.approx(START_KL * 3, rel=0.05)


def test_dimensions_without_a_component_cost_next_to_nothing():
    texts = [" ".join(["a b" if n % 2 else "c"] * (2 + n % 3)) for n in range(96)]
    model = pretrained(texts=texts, latent_size=40)
    states = model.pooled(texts)
    scale = (states - states.mean(0)).square().mean(0).sum().sqrt()
    with torch.no_grad():  # as the start at a decoder leaves it: 0.1 nats in each dimension
        model.encoder.head.weight.zero_()
        model.encoder.head.weight[:40] = torch.randn(40, 16) * (2 * START_KL) ** 0.5 / scale
        model.encoder.head.bias.zero_()
        model.encoder.head.bias[:40] = -model.encoder.head.weight[:40] @ states.mean(0)
    step = first_step(model, texts)
    kl = model.terms(texts).kl.mean(0)
    assert step.kl <= 16 * START_KL * 1.01  # the decoder has 16 hidden numbers
    assert kl[16:].sum() < 0.1 * kl.sum()


@pytest.mark.parametrize(
    ("made", "was_pretrained"),
    [
        (lambda: make("gpt2", "output"), False),
        (lambda: make("gpt2", "memory"), True),
        (lambda: grid("gpt2", "output"), True),
        (lambda: make("gpt2", "output", labels="given"), True),
    ],
    ids=["a fresh decoder", "another bridge", "several latents", "labels"],
)
def test_other_models_have_no_such_step(made, was_pretrained):
    model = made()
    model.config.decoder_pretrained = was_pretrained
    assert texts_for(model, TEXTS) == []


def test_a_model_that_has_it_is_asked_for_texts():
    assert sorted(texts_for(pretrained(), TEXTS)) == sorted(TEXTS)


def test_a_bridge_to_an_output_layer_of_unknown_width_is_refused():
    with pytest.raises(
        IsthmusError, match=r"the output bridge needs .* --model\.bridge embedding"
    ):
        build_bridge("output", 1, 3, DecoderShape(16))


@pytest.mark.parametrize("output", ["softmax", "adaptive", "words"])
def test_every_output_layer_says_how_wide_its_input_is(output):
    assert make("gpt2", "memory", output=output).decoder.output_size == 16
