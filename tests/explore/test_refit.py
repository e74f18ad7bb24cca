"""A trained model gets a prior that fits its aggregate posterior, and nothing else changes."""

import pytest
import torch
from transformers import BertConfig, GPT2Config

from isthmus.data.tokens import special_ids, train_word_level
from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.explore.refit import refit
from isthmus.models.codec import make_codec
from isthmus.models.optimus import OptimusConfig, OptimusModel

COLOURS = ["red", "green", "blue", "grey"]
TEXTS = [f"{one} {two} {three}" for one in COLOURS for two in COLOURS for three in COLOURS]


def tiny_optimus(latents=1):
    torch.manual_seed(0)
    tokenizer = train_word_level(TEXTS, 50)
    special = special_ids(tokenizer)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": special.pad}
    config = OptimusConfig(
        encoder=BertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            **sizes,
        ),
        decoder=GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, **sizes),
        latent_size=2,
        latents=latents,
        prior_length=4,
        decoder_start=special.start,
        decoder_end=special.end,
        decoder_pad=special.pad,
    )
    model = OptimusModel(config, codec=make_codec(tokenizer, tokenizer, 8)).eval()
    with torch.no_grad():  # posteriors far from N(0, I), as after training at a small β
        for parameter in model.encoder.model.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1)
        model.encoder.head.weight.normal_()
    return model


@pytest.mark.parametrize("kind", ["mixture", "vamp", "flow"])
def test_a_fitted_prior_tightens_the_bound_and_keeps_the_model(kind):
    model = tiny_optimus()
    examples = model.codec.prepare(TEXTS)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = bounds(model, examples, samples=8)
    refit(model, TEXTS, kind, components=8, steps=60, seed=1)
    after = bounds(model, examples, samples=8)
    assert after.kl.shape == (len(TEXTS), 1)
    assert after.kl.mean() < before.kl.sum(1).mean() - 0.2
    assert after.nll_iw.mean() < before.nll_iw.mean() - 0.2
    torch.testing.assert_close(after.reconstruction, before.reconstruction)
    kept = model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in weights.items())
    assert model.config.prior == kind
    again = tiny_optimus()
    refit(again, TEXTS, kind, components=8, steps=60, seed=1)
    torch.testing.assert_close(bounds(again, examples, samples=8).nll_iw, after.nll_iw)


def test_a_fit_that_fails_leaves_the_model_as_it_was():
    model = tiny_optimus()
    with pytest.raises(ValueError, match="nothing to fit"):
        refit(model, TEXTS, "standard", components=5)
    assert model.config.prior_components == 64
    assert model.prior.is_standard_normal


def test_grids_of_latents_are_refused():
    with pytest.raises(IsthmusError, match="one latent vector"):
        refit(tiny_optimus(latents=2), TEXTS, "mixture")
