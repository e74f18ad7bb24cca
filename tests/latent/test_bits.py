"""Binary latents, and the bridge that reads their codes half-way up a decoder."""

import itertools
import math

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.evaluation.likelihood import bounds
from isthmus.latent.bits import Bits, UniformBits
from isthmus.models.bridges import MiddleBridge
from isthmus.models.conditioning import Conditioning, DecoderShape
from isthmus.models.inspection import layers_of, read_as_well
from tiny import TEXTS, make, system

SIZE = 3
CODES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=SIZE)))
SHAPE = DecoderShape(6, output_size=6, layers=4)


def some(count=5, seed=0):
    return Bits(torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed)).double())


def test_its_probabilities_sum_to_one_and_its_kl_is_their_sum():
    q, p = some(), UniformBits(SIZE)
    log_q = q.log_prob(CODES.double().unsqueeze(1))  # [2^P N]
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(5).double())
    log_p = p.log_prob(CODES.double())
    assert log_p.exp().sum().item() == pytest.approx(1)
    expected = (log_q.exp() * (log_q - log_p.unsqueeze(1))).sum(0)
    torch.testing.assert_close(q.kl(p).sum(1), expected)
    torch.testing.assert_close(q.entropy(), -(log_q.exp() * log_q).sum(0))
    torch.testing.assert_close(q.log_prob_of_each(CODES.double()), log_q)
    assert (q.kl(p) >= 0).all()
    assert Bits.from_numbers(torch.zeros(2, 6), (2, 3)).kl(UniformBits(2, 3)).abs().max() < 1e-7


def test_draws_have_their_probabilities_and_the_gradient_is_that_of_the_mean():
    q = Bits(some().tensors[0].float().requires_grad_())
    z = q.rsample(noise=torch.randn(40_000, 5, SIZE, generator=torch.Generator().manual_seed(1)))
    assert set(z.unique().tolist()) == {0.0, 1.0}
    error = (q.mean * (1 - q.mean) / len(z)).sqrt()
    assert ((z.mean(0) - q.mean).abs() < 4.5 * error).all()
    weights = torch.randn(5, SIZE)
    [through] = torch.autograd.grad((z[0] * weights).sum(), q.tensors[0], retain_graph=True)
    [mean] = torch.autograd.grad((q.mean * weights).sum(), q.tensors[0])
    torch.testing.assert_close(through, mean)


def test_the_gradient_of_a_bit_is_what_flipping_it_changes():
    torch.manual_seed(0)
    bridge = MiddleBridge(2, SIZE, SHAPE, 1)
    z = torch.randint(2, (4, 2, SIZE)).float().requires_grad_()
    weights = torch.randn(4, 2, 6)

    def value(z):
        return (bridge(z).middle * weights).sum()

    [slope] = torch.autograd.grad(value(z), z)
    with torch.no_grad():
        for place in itertools.product(range(4), range(2), range(SIZE)):
            on, off = z.detach().clone(), z.detach().clone()
            on[place], off[place] = 1.0, 0.0
            torch.testing.assert_close(slope[place], value(on) - value(off), atol=1e-5, rtol=1e-5)
    rows = bridge(CODES.view(-1, 1, SIZE)).middle[:, 0]
    assert len({tuple(row.tolist()) for row in rows}) == 2**SIZE  # one-hot: a vector for each code


@torch.no_grad()
def test_only_the_upper_half_reads_it():
    decoder = make("llama").decoder
    ids = torch.tensor([[1, 5, 6, 7]])
    rows = torch.randn(1, 3, 16)
    given = Conditioning(middle=rows)
    seen = {}
    layers = layers_of(decoder.stack)
    handles = [
        layer.register_forward_hook(lambda _, __, out, n=n: seen.setdefault(n, []).append(out))
        for n, layer in enumerate(layers)
    ]
    plain, moved = decoder.hidden(Conditioning(), ids), decoder.hidden(given, ids)
    for handle in handles:
        handle.remove()
    first, last = (seen[n] for n in (0, 1))
    assert torch.equal(first[0], first[1])
    assert not torch.equal(last[0], last[1])
    assert (plain - moved).abs().amax(-1).min() > 1e-3
    # Place 3 is beyond the latents: alone it would read nothing, and attends to what does.
    alone = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    with read_as_well(layers[1], alone):
        torch.testing.assert_close(decoder.hidden(Conditioning(), ids), moved)
    torch.testing.assert_close(decoder.hidden(Conditioning(), ids), plain)


@torch.no_grad()
def test_the_bound_is_below_the_exact_log_probability_and_comes_near_it():
    model = system("bits")
    certain = [Bits(40 * (code.expand(len(TEXTS), -1) - 0.5)) for code in CODES]
    losses = torch.stack([model.terms(TEXTS, posterior=q).reconstruction for q in certain])
    exact = torch.logsumexp(-losses, 0) - SIZE * math.log(2)
    examples = model.codec.prepare(TEXTS)
    few, many = (bounds(model, examples, samples=k) for k in (1, 3_000))
    assert (-many.nll_iw.float() - exact).abs().max() < 0.1
    spread = many.negative_elbo.float() + exact
    assert (spread > -0.02).all()
    assert few.kl.shape == (len(TEXTS), SIZE)


def test_a_bridge_that_does_not_fit_is_refused_in_one_line():
    with pytest.raises(IsthmusError, match="needs a decoder of two Transformer layers"):
        make("lstm", "middle", posterior="bits")
    with pytest.raises(IsthmusError, match=r"got P = 17 .* expected 16 or fewer"):
        MiddleBridge(1, 17, SHAPE, 1)
    with pytest.raises(IsthmusError, match=r"middle reads bits, and model.posterior is diagonal"):
        make("llama", "middle")
    model = make("llama", "middle", posterior="bits")
    with pytest.raises(IsthmusError, match="bridge middle is gone"):
        model.recompute()
