"""Training by a part of the vocabulary: an unbiased denominator, and every measurement exact."""

from itertools import count

import pytest
import torch
from test_output_layer import gpt2

from isthmus.errors import IsthmusError
from isthmus.models.causal import CausalDecoder
from isthmus.models.conditioning import Conditioning
from isthmus.models.cooccurrence import successor_vectors
from isthmus.models.generation import SpecialTokens
from isthmus.models.output import candidates
from tiny import make

VOCABULARY = 9
TARGETS = torch.tensor([[4, 2], [4, -100]])


def drawn(sample: int) -> dict[tuple[int, ...], torch.Tensor]:
    """Weights over the vocabulary for every set of other tokens that can be drawn."""
    found = {}
    for seed in count():
        torch.manual_seed(seed)
        some = candidates(TARGETS, VOCABULARY, sample)
        assert some.tokens[some.places].tolist() == [[4, 2], [4, 2]]  # the last is no target
        weights = torch.zeros(VOCABULARY)
        weights[some.tokens] = some.log_weights.exp()
        found[tuple(sorted(some.tokens[2:].tolist()))] = weights
        if len(found) == (7 if sample == 1 else 21):
            return found


@pytest.mark.parametrize("sample", [1, 2])
def test_the_denominator_is_right_on_average_over_all_draws(sample):
    weights = torch.stack(list(drawn(sample).values()))
    # Each token counts once on average, so Σ_v w_v e^l_v has the mean Z for any logits.
    torch.testing.assert_close(weights.mean(0), torch.ones(VOCABULARY))
    assert (weights[:, [2, 4]] == 1).all(), "targets are never left to chance"


def losses(decoder, targets, **change):
    ids = torch.tensor([[1, 4, 2], [1, 4, 0]])
    conditioning = Conditioning(embedding=torch.zeros(2, 16), **change)
    return decoder.token_losses(conditioning, ids, targets)


def test_gradients_of_the_denominator_are_those_of_all_tokens_on_average():
    targets = torch.tensor([[4, 2, 5], [4, 2, -100]])
    decoder = CausalDecoder(gpt2(vocabulary=6), SpecialTokens(1, 2, 0)).train()
    for module in decoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    output = decoder.model.get_output_embeddings().weight

    def denominators(sample, seed):
        torch.manual_seed(seed)
        decoder.sample_vocabulary(sample)
        loss = losses(decoder, targets)[targets >= 0]
        # −log p = log Z − l, and the logits of the targets are those of all tokens.
        z = (loss - exact + log_z).exp().sum()
        return z, torch.autograd.grad(z, output)[0]

    exact = losses(decoder, targets)[targets >= 0].detach()
    hidden = decoder.hidden(
        Conditioning(embedding=torch.zeros(2, 16)), torch.tensor([[1, 4, 2], [1, 4, 0]])
    )[targets >= 0]
    log_z = decoder.logits(hidden).logsumexp(-1).detach()
    whole = denominators(100, 0)
    # Tokens 0, 1 and 3 are in no target: three draws of one, each equally probable.
    parts = {}
    for seed in count():
        found = denominators(1, seed)
        parts[round(found[0].item(), 6)] = found
        if len(parts) == 3:
            break
    torch.testing.assert_close(torch.stack([z for z, _ in parts.values()]).mean(), whole[0])
    mean = torch.stack([gradient for _, gradient in parts.values()]).mean(0)
    torch.testing.assert_close(mean, whole[1], rtol=1e-4, atol=1e-4)


def test_a_sample_of_all_other_tokens_changes_nothing():
    model = make("llama", "memory+embedding").train()
    batch = model.read(["a b", "c"]).collate([0, 1], noise_shape=model.latent_shape)
    before = model(**batch).reconstruction
    model.decoder.sample_vocabulary(10_000)
    assert torch.equal(model(**batch).reconstruction, before)


def test_measurements_use_all_tokens():
    model = make("llama", "memory+embedding")
    before = model.terms(["a b", "c"]).reconstruction
    model.decoder.sample_vocabulary(1)
    assert torch.equal(model.terms(["a b", "c"]).reconstruction, before)
    batch = model.read(["a b", "c"]).collate([0, 1], noise_shape=model.latent_shape)
    exact = model(**batch).reconstruction
    assert not torch.allclose(model.train()(**batch).reconstruction, exact)


def test_an_output_layer_without_rows_is_refused_in_one_line():
    with pytest.raises(IsthmusError, match="no plain softmax; use"):
        make(output="adaptive").decoder.sample_vocabulary(5)


def test_successors_lie_where_the_tokens_that_follow_lie():
    # Tokens 0 (start) and 1 (end) around the texts 2 3, 2 4 and 2 3: after 2 comes 3 twice in
    # three times; of all nine successors 2 and 1 are three each, 3 two, 4 one.
    ids, lengths = torch.tensor([2, 3, 2, 4, 2, 3]).numpy(), torch.tensor([2, 2, 2]).numpy()
    found = successor_vectors(ids, lengths, (0, 1), torch.eye(6))
    each = torch.tensor([0, 3, 3, 2, 1, 0]) / 9
    after = {0: [0, 0, 1, 0, 0, 0], 2: [0, 0, 0, 2 / 3, 1 / 3, 0], 3: [0, 1, 0, 0, 0, 0]}
    for token, row in after.items():
        wanted = torch.nn.functional.normalize(torch.tensor(row) - each, dim=0)
        torch.testing.assert_close(found[token], wanted)
    assert not found[[1, 5]].any(), "nothing follows the end, and 5 stands nowhere"
