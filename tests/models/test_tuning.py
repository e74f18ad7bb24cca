"""Full, LoRA and frozen: what is trained, and that it comes back from disk."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.models.tuning import apply_tuning
from tiny import TEXTS, make, settings


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """An encoder and a decoder "pretrained" with dropout, as folders with their tokenizers."""
    root = tmp_path_factory.mktemp("stock")
    whole = make(dropout=0.5)
    for name in ("encoder", "decoder"):
        part = getattr(whole, name).model
        part.save_pretrained(root / name)
        whole.codec.decoder_tokenizer.save_pretrained(root / name)
    return root


def tuned(stock, encoder: str, decoder: str):
    plain = settings()
    model = dataclasses.replace(
        plain.model,
        lora_rank=2,
        encoder=dataclasses.replace(
            plain.model.encoder, source=str(stock / "encoder"), tuning=encoder
        ),
        decoder=dataclasses.replace(
            plain.model.decoder, source=str(stock / "decoder"), tuning=decoder
        ),
    )
    data = dataclasses.replace(plain.data, maximum_length=10)
    return build(dataclasses.replace(plain, model=model, data=data), TEXTS)


def batch_of(model):
    examples = model.codec.prepare(TEXTS)
    return examples.collate(range(len(TEXTS)), noise_shape=model.latent_shape)


def parts(model) -> dict[str, set[str]]:
    """Names of the trained parameters, by the part of the model they are in."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    return {
        "encoder": {n for n in names if n.startswith("encoder.model.")},
        "decoder": {n for n in names if n.startswith("decoder.model.")},
        "own": {n for n in names if not n.startswith(("encoder.model.", "decoder.model."))},
    }


@pytest.mark.parametrize("encoder", ["full", "lora", "frozen"])
@pytest.mark.parametrize("decoder", ["full", "lora", "frozen"])
def test_gradient_reaches_what_is_trained_and_nothing_else(stock, encoder, decoder):
    model = tuned(stock, encoder, decoder).train()
    with torch.no_grad():  # B of LoRA starts at 0, which would hide A's gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    output = model(**batch_of(model))
    (output.reconstruction.sum() + output.kl.sum()).backward()
    for name, parameter in model.named_parameters():
        if "key.bias" in name:  # softmax ignores what is the same for all keys
            continue
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == parameter.requires_grad, name
    trained = parts(model)
    assert {"encoder.head.weight"} < trained["own"]
    for part, tuning in (("encoder", encoder), ("decoder", decoder)):
        lora = {name for name in trained[part] if "lora_" in name}
        assert bool(trained[part]) == (tuning != "frozen")
        assert (lora == trained[part]) == (tuning != "full")


def test_frozen_parts_have_no_dropout_while_the_rest_trains(stock):
    frozen = tuned(stock, "frozen", "frozen").train()
    batch = batch_of(frozen)
    first, again = frozen(**batch), frozen(**batch)
    assert torch.equal(first.reconstruction, again.reconstruction)
    assert torch.equal(first.posterior[0], again.posterior[0])
    assert frozen.training
    assert frozen.encoder.training
    for full in (tuned(stock, "full", "frozen"), tuned(stock, "frozen", "full")):
        full.train()
        assert not torch.equal(
            full(**batch).reconstruction, full(**batch).reconstruction
        )  # dropout of 0.5 is on in the other half
        full.eval()
        assert torch.equal(full(**batch).reconstruction, full(**batch).reconstruction)


def test_lora_starts_as_the_stock_model_and_leaves_its_weights(stock):
    lora, frozen = tuned(stock, "lora", "lora").eval(), tuned(stock, "frozen", "frozen").eval()
    own = {n: p for n, p in frozen.named_parameters() if p.requires_grad}  # head and bridge
    lora.load_state_dict(own, strict=False)
    torch.testing.assert_close(lora.encode(TEXTS).mean, frozen.encode(TEXTS).mean)
    losses = [model.terms(TEXTS).reconstruction for model in (lora, frozen)]
    torch.testing.assert_close(*losses)
    before = {n: p.clone() for n, p in lora.named_parameters() if not p.requires_grad}
    assert before
    optimiser = torch.optim.AdamW(lora.parameters(), lr=0.1, weight_decay=0.1)
    lora(**batch_of(lora)).reconstruction.sum().backward()
    optimiser.step()
    assert (lora.encode(TEXTS).mean - frozen.encode(TEXTS).mean).abs().max() > 1e-3
    after = dict(lora.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_lora_updates_are_of_the_given_rank_on_every_linear_map():
    """W + 2·B·A, also where GPT-2 keeps its maps transposed; the output layer stays."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=16, n_layer=1, n_head=4))
    plain = {n: p.clone() for n, p in model.named_parameters()}
    apply_tuning(model, "lora", rank=3)
    layer = model.transformer.h[0]
    for linear in (layer.attn.c_attn, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj):
        a, b = linear.lora_A.default.weight, linear.lora_B.default.weight
        assert a.shape[0] == b.shape[1] == 3
        with torch.no_grad():
            b.normal_()
            x = torch.randn(5, a.shape[1])
            base = linear.base_layer(x)
            torch.testing.assert_close(linear(x), base + 2 * x @ a.T @ b.T, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.lm_head.weight, plain["transformer.wte.weight"])


def test_tuning_of_a_fresh_model_is_refused():
    plain = settings()
    for role in ("encoder", "decoder"):
        part = dataclasses.replace(getattr(plain.model, role), tuning="frozen")
        model = dataclasses.replace(plain.model, **{role: part})
        with pytest.raises(IsthmusError, match=f"{role}: tuning 'frozen' .* fresh"):
            build(dataclasses.replace(plain, model=model), TEXTS)


def test_unknown_tuning_is_refused():
    model = BertModel(BertConfig(vocab_size=8, hidden_size=12, num_hidden_layers=1))
    with pytest.raises(IsthmusError, match="got 'partial', expected full, lora or frozen"):
        apply_tuning(model, "partial", 2)


def test_a_language_model_with_nothing_to_train_is_refused(stock):
    plain = settings(kind="language-model")
    part = dataclasses.replace(plain.model.decoder, source=str(stock / "decoder"), tuning="frozen")
    model = dataclasses.replace(plain.model, decoder=part)
    data = dataclasses.replace(plain.data, maximum_length=10)
    with pytest.raises(IsthmusError, match="nothing to train"):
        build(dataclasses.replace(plain, model=model, data=data), TEXTS)
