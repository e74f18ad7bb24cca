"""T5-VAE (Park & Lee 2021): what its code got wrong, so that nobody here repeats it.

Where each property is proved (files without a folder are beside this one):

| property | proof |
|---|---|
| an example sees its own z alone, in every layer and mode | test_seq2seq |
| a batch is its examples one by one | test_systems: order_and_size, generation_of_a_batch |
| padding changes no term, under any pooling | here; test_encoders; test_systems: padding |
| token by token is one pass; a used z is as new; beams | test_seq2seq |
| reconstruction rises when z is exchanged | here; train/test_watch: a_closed_bridge |
| loss = (Σ cross-entropy + β · KL) / N | here; train/test_trainer: plain_loop |
| −ELBO = reconstruction + KL ≥ the tighter bound | evaluate/test_report, test_likelihood |
| perplexity counts the same symbols above and below | evaluate/test_report: symbols, every_unit |
| KL in closed form | latent/test_posterior: golden_values, that_of_torch |
| KL threshold: in training alone, no gradient below | here; latent/test_objective |
| batch-mean free bits | latent/test_objective: batch_mean |
| mutual information ≤ ln N | here; evaluate/test_usage, test_report: saturated |
| active units that were planted | here; evaluate/test_usage |
| deletion: ids, mask, order, end, targets, rate | here; ../test_denoise, ../test_batches |
| evaluation deletes nothing | train/test_trainer: true_bound_without_dropout |
| what is fixed stays, the bridge learns | test_seq2seq; train/test_processes: idle |
| β reaches its end at the stated step | latent/test_schedule; of the recipes: here |
| head sizes are those of the model | test_seq2seq |
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.data.denoise import Denoising
from isthmus.evaluation.usage import active_units, mutual_information
from isthmus.latent.objective import Objective, Terms
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import StandardNormal
from isthmus.latent.schedule import Schedule
from isthmus.models.bridges import MemoryBridge
from isthmus.models.build import build
from isthmus.models.conditioning import Conditioning
from isthmus.settings import DecoderSettings, EncoderSettings, load_recipe
from isthmus.training import make_objective
from tiny import TEXTS, columns, make, settings, system


def batch_of(model, texts=TEXTS, **options):
    examples = model.codec.prepare(texts)
    return examples.collate(range(len(texts)), noise_shape=model.latent_shape, **options)


def widened(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Twice as long, all of it padding."""
    fill = {"input_ids": 6, "attention_mask": 0, "decoder_input_ids": 6, "targets": -100}
    return {
        name: torch.cat([value, torch.full_like(value, fill[name])], 1) if name in fill else value
        for name, value in batch.items()
    }


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "attention"])
@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_padding_has_no_part_in_any_term(architecture, pooling):
    model = make(architecture, "memory", encoder=architecture, pooling=pooling)
    batch = batch_of(model)
    padded = columns(model(**widened(batch)))
    for name, plain in columns(model(**batch)).items():
        torch.testing.assert_close(padded[name], plain, atol=1e-5, rtol=2e-6)


@pytest.mark.parametrize("name", ["t5", "t5-memory"])
def test_the_loss_is_a_mean_over_sentences_of_sums_over_tokens(name):
    """Not over the positions of a padded batch: that made β 256 times what it was called."""
    model = system(name)
    batch = batch_of(model)
    beta = 0.3
    objective = Objective(Schedule.constant(beta), 10)
    losses, gradients = [], []
    for given in (batch, widened(batch)):
        output = model(**given)
        losses.append(objective(Terms(output.reconstruction, output.kl), 0).mean())
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(losses[-1], trained))
    torch.testing.assert_close(losses[1], losses[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
    posterior = model.posterior(batch)
    z = posterior.rsample(noise=batch["noise"].unsqueeze(0))[0]
    hidden = model.decoder.hidden(model.conditioning(z), batch["decoder_input_ids"])
    logits, targets = model.decoder.logits(hidden), batch["targets"]
    tokens = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    kl = posterior.kl(StandardNormal(3)).sum()
    torch.testing.assert_close(losses[0], (tokens + beta * kl) / len(TEXTS))
    bound = Objective(Schedule.constant(), 10)(Terms(output.reconstruction, output.kl), 0)
    torch.testing.assert_close(bound.sum(), tokens + kl)


def test_a_threshold_of_three_nats_is_96_in_training_and_none_in_evaluation():
    """P = 32 dimensions at the prior; below the threshold nothing pulls, above it all does."""
    mean = torch.zeros(4, 32, requires_grad=True)
    log_variance = torch.zeros(4, 32, requires_grad=True)
    terms = Terms(torch.zeros(4), DiagonalGaussian(mean, log_variance).kl(StandardNormal(32)))
    for form in ("clamp", "batch-mean"):
        loss = Objective(Schedule.constant(), 10, 3.0, form)(terms, 0)
        assert loss.tolist() == [96.0] * 4
        below = torch.autograd.grad(loss.sum(), (mean, log_variance), retain_graph=True)
        assert [g.abs().max().item() for g in below] == [0, 0]
    assert terms.negative_elbo.tolist() == [0.0] * 4
    far = torch.full((4, 32), 3.0, requires_grad=True)  # 4.5 nats a dimension
    above = Terms(torch.zeros(4), DiagonalGaussian(far, torch.zeros(4, 32)).kl(StandardNormal(32)))
    loss = Objective(Schedule.constant(), 10, 3.0, "clamp")(above, 0)
    assert loss.tolist() == above.negative_elbo.tolist() == [144.0] * 4
    assert torch.autograd.grad(loss.sum(), far)[0].tolist() == far.tolist()


@pytest.mark.parametrize(("count", "ceiling"), [(256, 5.51), (4096, 8.29)])
def test_mutual_information_is_bounded_by_its_sample(count, ceiling):
    """5.43 in the published table is the logarithm of its batch, and no quality of a model."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(count, 32)
    mean[:, :5] = 20 * torch.randn(count, 5, generator=generator)
    posterior = DiagonalGaussian(mean, torch.full_like(mean, -4.0))
    noise = torch.randn(1, *mean.shape, generator=generator)
    apart = mutual_information(posterior, posterior.rsample(noise=noise)[0])
    assert apart.value == pytest.approx(ceiling, abs=0.05)
    assert apart.value <= math.log(count) + 1e-6
    assert apart.count == count
    assert active_units(posterior).value == 5
    collapsed = DiagonalGaussian(torch.zeros(count, 32), torch.zeros(count, 32))
    assert mutual_information(collapsed, noise[0]).value == pytest.approx(0, abs=0.01)


def test_the_encoder_reads_the_tokens_that_deletion_leaves_and_not_the_mask():
    """Ids and mask had changed places; different texts then had one and the same posterior."""
    model = make("t5", "memory", encoder="t5")
    texts = ["a b c a b c a b", "c b a c b a c b", "b b b a a a c c"] * 100
    clean = batch_of(model, texts)
    noisy = batch_of(model, texts, denoising=Denoising(deletion=0.4))
    assert torch.equal(noisy["targets"], clean["targets"])
    assert torch.equal(noisy["decoder_input_ids"], clean["decoder_input_ids"])
    mask = noisy["attention_mask"]
    assert set(mask.unique().tolist()) <= {0, 1}
    kept = mask.sum(1) - 2  # start and end stay
    for row in range(len(texts)):
        left = noisy["input_ids"][row, mask[row] == 1].tolist()
        rest = iter(clean["input_ids"][row].tolist())
        assert all(token in rest for token in left)
        assert left[0] == clean["input_ids"][row, 0]
        assert left[-1] == clean["input_ids"][row, -1]
    # The rate is p, not the half of it: 8 tokens of which each goes with probability 0.4.
    error = math.sqrt(8 * 0.4 * 0.6 / len(texts))
    assert kept.double().mean().item() == pytest.approx(4.8, abs=4 * error)
    mean = model.posterior({name: value[:3] for name, value in noisy.items()}).mean
    assert torch.pdist(mean).min() > 1e-3


@pytest.mark.parametrize("name", ["t5-vae", "t5-vae-base"])
def test_beta_of_the_recipes_really_reaches_its_end(name):
    """The published ramp was written for ten times the epochs, and ended at 0.1."""
    recipe = load_recipe(name)
    for steps in (7, 1000):
        objective = make_objective(recipe.objective, steps)
        assert objective.beta(0) == 0
        assert objective.beta(steps - 1) == objective.beta(steps) == recipe.objective.beta == 1


WORDS, LENGTH, TEMPLATES, NOISE = 12, 6, 32, 0.03
"""The toy language: one of 32 sentences, each word of which may be replaced by any."""


def toy(count: int, seed: int) -> tuple[list[str], float]:
    """Sentences and their mean −log p, exactly: what no decoder without z can fall below."""
    templates = torch.randint(
        WORDS, (TEMPLATES, LENGTH), generator=torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(seed)
    rows = templates[torch.randint(TEMPLATES, (count,), generator=generator)]
    replaced = torch.rand(rows.shape, generator=generator) < NOISE
    rows = torch.where(replaced, torch.randint(WORDS, rows.shape, generator=generator), rows)
    own = (rows.unsqueeze(1) == templates).double()
    of_each = (own * (1 - NOISE) + NOISE / WORDS).log().sum(-1)  # [N templates]
    nats = math.log(TEMPLATES) - of_each.logsumexp(1).mean().item()
    return [" ".join(f"w{word}" for word in row) for row in rows.tolist()], nats


def trained_on_toy(texts: list[str], steps: int = 250):
    """A T5 of one layer a side, the slot as its bridge, at β = 0.2."""
    size = {"architecture": "t5", "layers": 1, "hidden_size": 32, "heads": 4}
    plain = settings("t5", "memory")
    parts = {
        "latent_size": 8,
        "bridge_length": 1,
        "encoder": EncoderSettings(pooling="mean", head_scale=0.5, **size),
        "decoder": DecoderSettings(**size),
    }
    model = build(
        dataclasses.replace(
            plain,
            model=dataclasses.replace(plain.model, **parts),
            data=dataclasses.replace(plain.data, vocabulary_size=5 + WORDS),
        ),
        texts,
    ).train()
    batch = model.codec.prepare(texts).collate(range(len(texts)))
    objective = Objective(Schedule.constant(0.2), steps)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        rows = torch.randint(len(texts), (64,))
        output = model(**{name: value[rows] for name, value in batch.items()})
        objective(Terms(output.reconstruction, output.kl), step).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


@torch.no_grad()
def measured_on_toy(model) -> tuple[float, float, float, float]:
    """Reconstruction, KL, reconstruction under the next example's z, and the entropy."""
    texts, nats = toy(400, seed=2)
    batch = batch_of(model, texts)
    posterior = model.posterior(batch)
    z = posterior.rsample(noise=batch["noise"].unsqueeze(0))
    own, swapped = model.reconstruction(z, batch), model.reconstruction(z.roll(1, 1), batch)
    kl = posterior.kl(model.prior).sum(1)
    return own.mean().item(), kl.mean().item(), swapped.mean().item(), nats


def test_the_slot_is_used():
    """Four seconds: what z tells comes out of the decoder, and another's z tells the wrong."""
    own, kl, swapped, entropy = measured_on_toy(trained_on_toy(toy(2000, seed=1)[0]))
    assert own < 0.75 * entropy
    assert swapped > 2 * own
    assert own + kl > entropy, "−ELBO below the entropy is no bound"


def test_a_slot_scrambled_across_the_batch_is_found_out(monkeypatch):
    """The published result, planted: nothing is gained by z, and exchanging it changes nothing."""
    honest = MemoryBridge.forward

    def scrambled(self: MemoryBridge, z: Tensor) -> Conditioning:
        return Conditioning(memory=tuple(slots.roll(7, 0) for slots in honest(self, z).memory))

    monkeypatch.setattr(MemoryBridge, "forward", scrambled)
    own, _, swapped, entropy = measured_on_toy(trained_on_toy(toy(2000, seed=1)[0], steps=150))
    assert own > entropy - 0.3
    assert abs(swapped - own) < 0.1
