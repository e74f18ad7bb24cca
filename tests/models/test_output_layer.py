"""What happens between hidden states and log-probabilities: known, checked, and small."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, GPT2Config, GPT2LMHeadModel

from isthmus.errors import IsthmusError
from isthmus.models import decoder, memory
from isthmus.models.build import build
from isthmus.models.causal import CausalDecoder
from isthmus.models.checks import check_output_layer
from isthmus.models.conditioning import Conditioning
from isthmus.models.generation import SpecialTokens
from isthmus.models.output import AdaptiveOutput
from tiny import TEXT_SYSTEMS, loud, settings, system

SPECIAL = SpecialTokens(1, 2, 0)
WIDTH = 16


def gpt2(kind=GPT2LMHeadModel, vocabulary: int = 8):
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=WIDTH,
        n_layer=1,
        n_head=4,
        n_positions=40,
        bos_token_id=1,
        eos_token_id=2,
    )
    return loud(kind(config)).eval()


@pytest.mark.parametrize("name", TEXT_SYSTEMS)
def test_every_known_model_passes(name):
    check_output_layer(system(name).decoder)


class Scaled(GPT2LMHeadModel):
    """Does something after its output layer that nobody has heard of."""

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits * 1.1
        return output


class Biased(GPT2LMHeadModel):
    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits + torch.arange(output.logits.shape[-1]) / 10
        return output


@pytest.mark.parametrize("kind", [Scaled, Biased])
def test_an_unknown_transformation_is_found(kind):
    check_output_layer(CausalDecoder(gpt2(), SPECIAL))
    with pytest.raises(IsthmusError, match=f"{kind.__name__} changes its logits in a way"):
        check_output_layer(CausalDecoder(gpt2(kind), SPECIAL))


def test_the_check_leaves_the_mode_as_it_was():
    checked = CausalDecoder(gpt2(), SPECIAL)
    for mode in (True, False):
        check_output_layer(checked.train(mode))
        assert checked.training == checked.model.training == mode


def test_a_fresh_decoder_is_checked_too():
    """BERT's language-model head has a layer of its own before its output layer."""
    assert BertConfig.model_type == "bert"
    with pytest.raises(IsthmusError, match="BertLMHeadModel changes its logits"):
        build(settings("bert", "embedding", is_decoder=True), ["a b", "c"])


class Largest(TorchDispatchMode):
    """Rows of the largest float tensor whose last dimension is the vocabulary."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        for value in output if isinstance(output, tuple | list) else [output]:
            if not isinstance(value, torch.Tensor) or value.shape[-1:] != (self.vocabulary,):
                continue
            if value.shape != (WIDTH, self.vocabulary):  # the output layer's own weights
                self.rows = max(self.rows, value.shape[:-1].numel())
        return output


def test_memory_of_the_loss(monkeypatch):
    """No one-hot, no logits for padding, and with a large vocabulary one chunk at a time."""
    vocabulary, count, length = 97, 6, 20
    model = CausalDecoder(gpt2(vocabulary=vocabulary), SPECIAL).train()
    ids = torch.randint(3, vocabulary, (count, length))
    targets = torch.full((count, length), -100)
    for row in range(count):
        targets[row, : row + 2] = ids[row, : row + 2]
    predicted = int((targets >= 0).sum())
    assert predicted < count * length / 4
    for at_once, rows in ((2**24, predicted), (vocabulary * 5, 5), (1, 1)):
        monkeypatch.setattr(decoder, "LOGITS_AT_ONCE", at_once)
        monkeypatch.setattr(decoder, "FEWEST_ROWS", 1)
        with Largest(vocabulary) as largest:
            model.reconstruction(Conditioning(), ids, targets).sum().backward()
        assert largest.rows == rows


def test_a_chunk_fits_a_cache_and_batches_of_large_vocabularies_fit_a_gibibyte():
    """Batch 32 × 64 tokens of a 49,152-word vocabulary would be 384 MiB whole, several times."""
    assert decoder.LOGITS_AT_ONCE * 4 == 8 * 2**20
    assert decoder.LOGITS_AT_ONCE * memory.ON_A_GPU * 4 * 3 < 2**30
    assert decoder.FEWEST_ROWS * 49_152 * 4 * 3 < 2**30


def test_models_own_habits_of_generation_are_put_away():
    """A repetition penalty or a forced end in generation_config is no part of p(x|z)."""
    stock = gpt2()
    ids = CausalDecoder(gpt2(), SPECIAL).generate(Conditioning(), 1, decoder.Generation(8))
    stock.generation_config.repetition_penalty = 50.0
    stock.generation_config.forced_eos_token_id = 3
    stock.generation_config.suppress_tokens = ids[0]
    again = CausalDecoder(stock, SPECIAL).generate(Conditioning(), 1, decoder.Generation(8))
    assert again == ids
    assert len(ids[0]) > 0


@pytest.mark.parametrize("output", ["softmax", "adaptive"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5", "bart", "lstm", "dilated-cnn"])
def test_a_fresh_model_starts_near_the_uniform_distribution(architecture, output):
    words = [f"w{n}" for n in range(200)]
    texts = [" ".join(words[n : n + 10]) for n in range(0, 200, 5)]
    found = settings(architecture, kind="language-model", output=output)
    data = dataclasses.replace(found.data, vocabulary_size=205)
    model = build(dataclasses.replace(found, data=data), texts).eval()
    nats = model.terms(texts).reconstruction.sum() / sum(len(t.split()) + 1 for t in texts)
    assert nats < 1.5 * math.log(205)


@pytest.mark.parametrize("hidden", [8, 32])
def test_losses_of_an_adaptive_softmax_are_those_of_its_probabilities(hidden):
    torch.manual_seed(0)
    layer = loud(AdaptiveOutput(hidden, 100)).double()
    states = torch.randn(300, hidden, dtype=torch.double, requires_grad=True)
    targets = torch.arange(300) % 100
    given = [states, *layer.parameters()]
    losses, theirs = layer(states, targets), -layer.softmax(states, targets).output
    torch.testing.assert_close(losses, theirs)
    gradients = (torch.autograd.grad((each * each).sum(), given) for each in (losses, theirs))
    torch.testing.assert_close(*gradients)
    whole = AdaptiveOutput(hidden, 100)(states.detach().float())
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(300))


def test_an_adaptive_softmax_trains_in_bf16():
    """Torch's own layer raises an error there."""
    torch.manual_seed(0)
    layer = AdaptiveOutput(32, 100)
    states, targets = torch.randn(300, 32), torch.arange(300) % 100
    with torch.autocast("cpu", torch.bfloat16):
        losses = layer(states, targets)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, layer(states, targets), rtol=0.02, atol=0.02)
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
