"""LSTM and dilated CNN: what they see, what they remember, what z does to them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from isthmus.models.conditioning import Conditioning
from isthmus.models.dilated import DILATIONS, DilatedConfig, DilatedNetwork
from isthmus.models.lstm import LstmConfig, LstmNetwork
from isthmus.models.output import AdaptiveOutput
from isthmus.models.stateful import StateCache
from tiny import loud, system

FIELDS = {"scnn": 15, "mcnn": 63, "lcnn": 125, "vlcnn": 187}


def dilated(preset: str, **sizes) -> DilatedNetwork:
    config = DilatedConfig(vocab_size=9, hidden_size=8, internal_size=16, preset=preset, **sizes)
    return loud(DilatedNetwork(config)).double().eval()


@pytest.mark.parametrize("preset", DILATIONS)
def test_a_prediction_depends_on_exactly_the_receptive_field(preset):
    """By the gradient of the last position: it reaches back so far and no further."""
    network, field = dilated(preset), FIELDS[preset]
    assert network.config.receptive_field == field
    embedded = torch.randn(8, field + 9, 8, dtype=torch.double, requires_grad=True)
    network(inputs_embeds=embedded).last_hidden_state[:, -1].sum().backward()
    touched = embedded.grad.abs().sum((0, 2)).nonzero().flatten()
    # over several texts: in a single one ReLU may close the only path from the farthest word
    assert touched[0] == 9
    assert touched[-1] == field + 8


@pytest.mark.parametrize("make", [lambda: dilated("mcnn"), lambda: lstm(layers=2)])
def test_a_later_word_changes_nothing_before_it(make):
    network = make()
    ids = torch.randint(9, (2, 30))
    changed = ids.clone()
    changed[:, 20] = (changed[:, 20] + 1) % 9
    before, after = (network(input_ids=each).last_hidden_state for each in (ids, changed))
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20], after[:, 20])


def lstm(layers: int = 1, **sizes) -> LstmNetwork:
    config = LstmConfig(vocab_size=9, hidden_size=8, num_hidden_layers=layers, **sizes)
    return loud(LstmNetwork(config)).double().eval()


@pytest.mark.parametrize("make", [lambda: dilated("lcnn"), lambda: lstm(layers=2)])
@pytest.mark.parametrize("pieces", [[1] * 40, [7, 1, 20, 12]])
def test_piece_by_piece_is_the_whole(make, pieces):
    network = make()
    ids = torch.randint(9, (3, 40))
    whole = network(input_ids=ids).last_hidden_state
    cache = StateCache()
    parts = [
        network(input_ids=piece, past_key_values=cache).last_hidden_state
        for piece in ids.split(pieces, dim=1)
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=0)
    assert cache.get_seq_length() == 40


def test_lstm_is_its_equations():
    """Hochreiter & Schmidhuber's cell by hand, z beside every embedding, c₀ and tanh(c₀)."""
    network = lstm(latent_input=3)
    z = torch.randn(1, 3, dtype=torch.double)
    cell = torch.randn(1, 8, dtype=torch.double)
    ids = torch.tensor([[4, 1, 7]])
    hidden = torch.tanh(cell)
    found = network(
        input_ids=ids, latent_input=z, past_key_values=StateCache(network.start(cell))
    ).last_hidden_state
    weights = dict(network.lstm.named_parameters())
    for place, word in enumerate(ids[0]):
        inputs = torch.cat([network.embeddings.weight[word][None], z], dim=1)
        gates = functional.linear(inputs, weights["weight_ih_l0"], weights["bias_ih_l0"])
        gates = gates + functional.linear(hidden, weights["weight_hh_l0"], weights["bias_hh_l0"])
        enter, forget, new, leave = gates.chunk(4, dim=1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        torch.testing.assert_close(found[:, place], hidden)


def test_z_joins_every_position_of_the_cnn():
    """Embedding ⊕ z through the 1×1 entry is a constant added at every position."""
    network = dilated("scnn", latent_input=2)
    ids, z = torch.randint(9, (2, 5)), torch.randn(2, 2, dtype=torch.double)
    joined = network(input_ids=ids, latent_input=z).last_hidden_state
    with_bias = copy.deepcopy(network)
    rows = []
    for row, latent in zip(ids, z, strict=True):
        with torch.no_grad():
            added = network.entry.weight[:, -2:] @ latent
            with_bias.entry.bias.copy_(network.entry.bias + added)
        rows.append(with_bias(input_ids=row[None]).last_hidden_state)
    torch.testing.assert_close(torch.cat(rows), joined)


@pytest.mark.parametrize("name", ["lstm", "dilated-cnn"])
def test_without_z_the_decoder_is_the_plain_language_model(name):
    """z = 0 leaves the same weights as a language model with no place for z at all."""
    model = system(name)
    plain = copy.deepcopy(system(f"{name}-language")).decoder
    weights = model.decoder.model.state_dict()
    entry = {"lstm": "model.lstm.weight_ih_l0", "dilated-cnn": "model.entry.weight"}[name]
    weights[entry] = weights[entry][:, :-3]  # the columns that read z
    plain.model.load_state_dict(weights)
    ids = torch.randint(8, (3, 7))
    given = model.conditioning(torch.zeros(3, 3))
    torch.testing.assert_close(
        model.decoder.hidden(given, ids), plain.hidden(Conditioning(), ids), atol=1e-6, rtol=0
    )


def test_adaptive_softmax_is_a_distribution_and_its_losses_are_its_own():
    torch.manual_seed(0)
    output = AdaptiveOutput(16, 100)
    hidden = torch.randn(40, 16)
    log_probabilities = output(hidden)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(40))
    targets = torch.arange(40) * 2 + 1  # in every cluster
    torch.testing.assert_close(
        output(hidden, targets), -log_probabilities[torch.arange(40), targets]
    )


@pytest.mark.parametrize("width", [1, 3, 4, 8, 15, 16])
def test_no_cluster_of_an_adaptive_softmax_has_width_zero(width):
    """Words of such a cluster were equally probable, whatever was trained."""
    output = AdaptiveOutput(width, 40)
    for projection, _ in output.softmax.tail:
        assert projection.out_features >= 1
    log_p = output(torch.eye(width)[:1])[0]
    for first, last in ((2, 8), (8, 40)):
        assert log_p[first:last].unique().numel() > 1
