"""Semi-amortised training: who learns from which posterior."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from isthmus.latent.ascent import ascend
from isthmus.latent.objective import Objective, Terms
from isthmus.latent.schedule import Schedule
from isthmus.training.semi_amortised import semi_amortised
from tiny import TEXTS, system

STEPS, RATE = 3, 0.2
OBJECTIVE = Objective(Schedule.constant(0.5), 10, free_bits=0.05)


def loss(terms: Terms) -> torch.Tensor:
    return OBJECTIVE(terms, 0) if terms.kl.shape[1] > 1 else terms.reconstruction + terms.kl_total


def batch_of(model, draws):
    shape = (*draws, *model.latent_shape)
    return model.codec.prepare(TEXTS).collate(range(len(TEXTS)), seed=4, noise_shape=shape)


def gradients(model, output):
    model.zero_grad()
    # Weighted, as gradient accumulation does: the encoder's part must follow.
    (0.25 * loss(output.terms)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture(params=["gpt2-memory+embedding", "llama-prefix", "mixture", "flow", "grid"])
def model(request):
    return copy.deepcopy(system(request.param))


def inference(steps=STEPS):
    return partial(semi_amortised, loss=loss, steps=steps, learning_rate=RATE)


def test_the_encoder_learns_at_its_own_posterior_and_the_rest_at_the_improved_one(model):
    plain_batch, batch = batch_of(model, ()), batch_of(model, (STEPS + 1,))
    assert torch.equal(batch["noise"][:, 0], plain_batch["noise"])
    found = gradients(model, model(**batch, inference=inference()))
    plain = gradients(model, model(**plain_batch))

    start, prior = model.posterior(batch), model.prior

    def at_step(posterior, step):
        noise = batch["noise"][:, step].unsqueeze(0)
        return loss(model.terms_under(posterior, prior, batch, noise).terms)

    improved, _ = ascend(start, at_step, STEPS, RATE)
    last = batch["noise"][:, STEPS].unsqueeze(0)
    expected = gradients(model, model.terms_under(improved, prior, batch, last))
    compared = {"encoder": 0, "other": 0}
    for name, gradient in found.items():
        encoder = name.startswith("encoder.")
        theirs = plain[name] if encoder else expected[name]
        torch.testing.assert_close(gradient, theirs, atol=1e-5, rtol=1e-4)
        if gradient is not None and (plain[name] - gradient).abs().max() > 1e-3:
            compared["encoder" if encoder else "other"] += 1
    assert compared["encoder"] == 0
    assert compared["other"] > 5, "the improved posterior is no other one: the test shows nothing"


def test_the_terms_are_those_of_the_improved_posterior_and_lower_the_loss(model):
    batch = batch_of(model, (STEPS + 1,))
    output = model(**batch, inference=inference())
    start = model.posterior(batch)
    improved = model.family(*output.posterior)
    assert (improved.mean - start.mean).abs().max() > 0.1
    noise = batch["noise"][:, STEPS]
    z = improved.mean + torch.exp(improved.log_variance / 2) * noise
    torch.testing.assert_close(output.z, z)
    torch.testing.assert_close(
        output.reconstruction, model.reconstruction(z.unsqueeze(0), batch)[0]
    )
    before = model.terms_under(start, model.prior, batch, noise.unsqueeze(0)).terms
    assert loss(output.terms).mean() < loss(before).mean() - 0.1


def test_a_vamp_prior_lets_the_encoder_learn_as_a_part_of_the_prior_too():
    model = copy.deepcopy(system("vamp"))
    output = model(**batch_of(model, (2,)), inference=inference(1))
    gradients(model, output)
    assert model.prior_module.pseudo_inputs.grad.abs().max() > 0
    with_prior = model.encoder.head.weight.grad.clone()
    plain = gradients(model, model(**batch_of(model, ())))["encoder.head.weight"]
    assert (with_prior - plain).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gpt2-memory+embedding", "vamp"])
def test_each_example_is_improved_by_itself(name):
    model = system(name)
    run = partial(
        semi_amortised, model, loss=lambda t: t.negative_elbo, steps=2, learning_rate=RATE
    )
    whole = batch_of(model, (3,))
    together = run(whole)
    for index in range(len(TEXTS)):
        alone = run({key: value[index : index + 1] for key, value in whole.items()})
        for one, whole_batch in zip(alone.posterior, together.posterior, strict=True):
            torch.testing.assert_close(one[0], whole_batch[index], atol=1e-5, rtol=1e-5)
