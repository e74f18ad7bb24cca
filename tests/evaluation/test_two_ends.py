"""A model with a summary has figures of both ends: of all latents, and of the summary alone."""

import copy
import math

import pytest
import torch

from isthmus.evaluation.likelihood import EVALUATION_STREAM
from isthmus.evaluation.metrics import evaluate, work
from isthmus.evaluation.readings import readings_of
from isthmus.evaluation.walking import RADII, Extent, walked
from isthmus.latent.noise import example_noise
from isthmus.models.base import evaluating
from isthmus.models.generation import Generation
from isthmus.runs.card import ENDS, metric_rows
from tiny import TEXTS, make

SUMMARY = 2
SAMPLES = 4


@pytest.fixture(scope="module")
def model():
    return make("llama", "aligned", pooling="blocks", latents=8, summary=SUMMARY)


@pytest.fixture(scope="module")
def metrics(model):
    return measured(model)


def measured(model, **options):
    examples = model.codec.prepare(TEXTS)
    return evaluate(model, examples, **{"samples": SAMPLES, "texts": len(TEXTS)} | options)


def hidden(summaries):
    """Latents whose details are zeros."""
    return torch.nn.functional.pad(summaries, (0, 0, 0, 8 - SUMMARY))


def changed(model, change):
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other)
    return other


@torch.no_grad()
def losses(model, z):
    """−log p(x|z) of all texts under z [S N K P], all latents given."""
    with evaluating(model):
        batch = model.codec.prepare(TEXTS).collate(range(len(TEXTS)))
        return model.reconstruction(z, batch).double()


def test_the_figures_of_the_summary_are_those_of_its_own_vae(model, metrics):
    posterior = model.encode(TEXTS).latents(slice(SUMMARY))
    variance = posterior.log_variance.exp()
    kl = 0.5 * (posterior.mean.square() + variance - variance.log() - 1).flatten(1).sum(1)
    assert metrics["summary_kl"] == pytest.approx(kl.mean().item(), rel=1e-5)
    assert metrics["summary_kl_se"] == pytest.approx(kl.std().item() / math.sqrt(6), rel=1e-4)

    shape = (SAMPLES, SUMMARY, 4)
    noise = example_noise(0, EVALUATION_STREAM, range(len(TEXTS)), shape).transpose(0, 1)
    z = posterior.rsample(noise=noise)
    nats = losses(model, hidden(z))
    assert metrics["summary_reconstruction"] == pytest.approx(nats.mean().item(), rel=1e-5)
    normal = torch.distributions.Normal(0.0, 1.0)
    own = torch.distributions.Normal(posterior.mean, variance.sqrt())
    ratio = (normal.log_prob(z) - own.log_prob(z)).flatten(2).sum(-1)
    bound = math.log(SAMPLES) - torch.logsumexp(ratio - nats, 0)
    assert metrics["summary_nll_iw"] == pytest.approx(bound.mean().item(), rel=1e-5)
    words = sum(len(text.split()) + 1 for text in TEXTS)
    perplexity = math.exp(bound.sum().item() / words)
    assert metrics["summary_ppl_word"] == pytest.approx(perplexity, rel=1e-5)
    assert metrics["summary_latent_size"] == 4 * SUMMARY

    longest = Generation(max_new_tokens=max(len(text.split()) + 1 for text in TEXTS))
    back = model.decode(hidden(posterior.mean), longest)
    same = sum(a == b for a, b in zip(back, TEXTS, strict=True)) / len(TEXTS)
    assert metrics["summary_exact_match"] == pytest.approx(same)


def test_the_bound_of_the_summary_nears_its_log_p(model):
    """−log E_p(z)[p(x|z)] over draws of the prior, with hidden details."""
    generator = torch.Generator().manual_seed(1)
    z = model.prior.sample(3000, generator)
    nats = losses(model, z.unsqueeze(1).expand(-1, len(TEXTS), -1, -1))
    exact = (math.log(len(z)) - torch.logsumexp(-nats, 0)).mean().item()
    # Posteriors near the prior, so that a thousand samples are enough.
    calm = changed(model, lambda other: other.encoder.summary_head.weight.mul_(0.1))
    found = measured(calm, samples=1000, texts=0)
    assert found["summary_nll_iw"] == pytest.approx(exact, abs=0.1)
    assert -found["summary_elbo"] > exact + 0.5


def test_details_change_the_figures_of_all_latents_alone(model, metrics):
    louder = measured(changed(model, lambda other: other.encoder.head.weight.mul_(1.5)))
    alone = {name: value for name, value in metrics.items() if name.startswith("summary_")}
    assert {name: louder[name] for name in alone} == alone
    assert louder["kl"] > metrics["kl"] + 1


def test_the_other_figures_are_those_of_all_latents(model, metrics):
    kl = model.encode(TEXTS).kl(model.prior, torch.empty(0)).flatten(1).sum(1)
    assert metrics["kl"] == pytest.approx(kl.mean().item(), rel=1e-5)
    assert metrics["latent_size"] == 8 * 4
    done = []
    refined = measured(model, progress=done.append, refine_steps=3)
    assert sum(done) == work(model, model.codec.prepare(TEXTS), len(TEXTS), 3)
    assert refined["summary_elbo_refined"] >= metrics["summary_elbo"]
    assert refined["summary_amortisation_gap"] > 0.1
    plain = make("llama", "aligned", pooling="blocks", latents=8)
    assert not any(name.startswith("summary") for name in measured(plain, texts=0))


def levels(metrics):
    return {row.key: row.level for row in readings_of(metrics, {})}


def test_a_summary_that_the_decoder_ignores_is_found(model, metrics):
    assert abs(metrics["summary_swap_gap"]) > 0.01

    def silence(other):
        for weight in other.summary_bridge.parameters():
            weight.zero_()

    found = measured(changed(model, silence), texts=0)
    assert found["summary_swap_gap"] == pytest.approx(0, abs=1e-6)
    assert found["summary_mutual_information"] == metrics["summary_mutual_information"] > 1
    assert abs(found["swap_gap"]) > 0.01
    well_read = metrics | {"swap_gap": 30.0, "swap_gap_se": 1.0}
    assert levels(well_read | {"summary_swap_gap": 9.0})["summary_swap_gap"] != "warning"
    told = levels(well_read | {name: found[name] for name in found if "summary" in name})
    assert (told["kl"], told["swap_gap"]) == ("good", "good")
    assert (told["summary_kl"], told["summary_swap_gap"]) == ("warning", "warning")


def test_each_latent_of_the_summary_is_swapped_by_itself(model, metrics):
    assert metrics["swap_gap_per_latent"] is None
    assert (metrics["latents"], metrics["summary_latents"]) == (8, SUMMARY)
    parts = metrics["summary_kl_per_latent"]
    assert math.fsum(parts) == pytest.approx(metrics["summary_kl"], rel=1e-5)

    def forget_the_second(other):
        [weight] = other.summary_bridge.parameters()
        weight[:, 4:] = 0

    found = measured(changed(model, forget_the_second), texts=0)
    first, second = found["summary_swap_gap_per_latent"]
    assert first == pytest.approx(found["summary_swap_gap"], abs=1e-5)
    assert abs(first) > 0.01
    assert second == pytest.approx(0, abs=1e-5)
    said = {row.key: row.reading for row in readings_of(found | {"summary_swap_gap": 30.0}, {})}
    assert "of the 2 latents, one at a time" in said["summary_swap_gap"]
    assert "one at a time" not in said["swap_gap"]


def test_both_ends_are_read_with_what_each_is_for(metrics):
    rows = metric_rows(metrics)
    names = [name for name, *_ in rows]
    whole, alone = (names.index(end) for end in ENDS)
    assert names.index("perplexity") > alone > names.index("KL(q(z|x) ‖ p(z))") > whole
    assert names.count("perplexity") == 1
    [shown] = [value for name, value, _ in rows if name == "perplexity"]
    assert shown.startswith(f"{metrics['summary_ppl_word']:.3f} ±")
    keys = {row.key for row in readings_of(metrics, {})}
    assert {"kl", "exact_match", "summary_kl", "summary_nll_iw", "summary_ppl_word"} <= keys
    assert not {"nll_iw", "ppl_word", "aggregate_mismatch", "active_units"} & keys


def test_the_summary_is_what_moves_with_hidden_details(model):
    extent = Extent(texts=6, pairs=1, samples=2, moved=6)
    found = walked(model, TEXTS, extent=extent)
    posterior = model.encode(found.own).latents(slice(SUMMARY))
    longest = Generation(max_new_tokens=max(len(text.split()) + 1 for text in TEXTS))
    assert found.unmoved == found.moved[0] == model.decode(hidden(posterior.mean), longest)
    variance = posterior.log_variance.exp().flatten(1)
    total = variance.mean(0) + posterior.mean.flatten(1).var(0, correction=0)
    nats = (total / variance.mean(0)).log() / 2
    radius = ((variance / total) @ nats / nats.sum()).mean().sqrt().item()
    assert found.posterior_radius.value == pytest.approx(radius, rel=1e-4)
    louder = changed(model, lambda other: other.encoder.head.weight.mul_(3))
    again = walked(louder, TEXTS, extent=extent)
    assert again.moved == found.moved
    assert len({tuple(texts) for texts in found.moved}) > len(RADII) // 2
    assert again.walks != found.walks
