"""The one rule and its cases: closed forms, enumeration, transformers' own guidance."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor

from isthmus.control.guidance import mix, steer, within
from isthmus.control.sampling import ban, keep_nucleus
from isthmus.errors import IsthmusError

N, V = 2, 5


def logits(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def guide(coded, null, scale):
    """Classifier-free guidance, l_∅ + γ (l_c − l_∅)."""
    return steer(null, coded, null, scale)


def test_guidance_at_its_ends_is_what_it_is_given():
    coded, null = logits(N, V), logits(N, V, seed=1)
    assert guide(coded, null, 0) is null
    torch.testing.assert_close(guide(coded, null, 1), coded)
    torch.testing.assert_close(guide(coded, null, 1e-12), null)  # no jump at the shortcut


@given(scale=st.floats(0, 5), shift=st.floats(-9, 9))
def test_guidance_is_the_rule_on_probabilities(scale, shift):
    """p ∝ p_∅ (p_c / p_∅)^γ, wherever the logits have their zeros."""
    coded, null = logits(N, V), logits(N, V, seed=1)
    p, q = coded.softmax(-1), null.softmax(-1)
    wanted = q ** (1 - scale) * p**scale
    found = guide(coded + shift, null - shift, scale).softmax(-1)
    torch.testing.assert_close(found, wanted / wanted.sum(-1, keepdim=True))


class Fixed:
    """A language model whose unconditional logits are given."""

    def __init__(self, null):
        self.null = null

    def __call__(self, ids, **_):
        return type("Output", (dict,), {"logits": self.null[None, None].expand(1, 1, -1)})()


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_guidance_is_that_of_transformers(scale):
    coded, null = logits(1, V), logits(V, seed=1)
    theirs = UnbatchedClassifierFreeGuidanceLogitsProcessor(
        scale, Fixed(null), unconditional_ids=torch.tensor([[0]]), use_cache=False
    )(torch.tensor([[0]]), coded)
    ours = guide(coded, null[None], scale)
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1))
    assert not torch.allclose(theirs, coded.log_softmax(-1), atol=0.01)


def test_algebra_of_experts():
    base, good, bad = (logits(N, V, seed=seed) for seed in range(3))
    shift = steer(base, good, bad, 0.7) - base
    torch.testing.assert_close(steer(base, bad, good, 0.7) - base, -shift)
    assert steer(base, good, bad, 0) is base
    # The base as its own expert: only the anti-expert is left.
    torch.testing.assert_close(steer(base, base, bad, 0.7), 1.7 * base - 0.7 * bad)


def test_a_log_probability_of_the_attribute_is_bayes_rule():
    """GeDi and FUDGE: p ∝ p(x) p(c|x), also where p(c|x) is a ratio of two likelihoods."""
    base, attribute = logits(N, V), torch.rand(N, V, dtype=torch.double)
    joint = base.softmax(-1) * attribute
    wanted = joint / joint.sum(-1, keepdim=True)
    zero = torch.zeros(())
    torch.testing.assert_close(steer(base, attribute.log(), zero, 1.0).softmax(-1), wanted)
    likelihoods = torch.stack([attribute, 1 - attribute]).log() + logits(N, 1, seed=2)
    ratio = steer(base, likelihoods[0], likelihoods.logsumexp(0), 1.0)
    torch.testing.assert_close(ratio.softmax(-1), wanted)


def test_a_mixture_is_a_product_of_experts():
    each = logits(2, N, V)
    p = each.softmax(-1)
    product = p[0] ** 0.3 * p[1] ** 0.7
    found = mix(each, torch.tensor([0.3, 0.7])).softmax(-1)
    torch.testing.assert_close(found, product / product.sum(-1, keepdim=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(mix(each[:1], torch.ones(1)), each[0])
    # A token that one code never says is not said, unlike in the arithmetic mean.
    silent = torch.tensor([[0.0, -60.0], [0.0, 0.0]])
    both = torch.tensor([0.5, 0.5])
    assert mix(silent, both).softmax(-1)[1] < 1e-12
    assert (both @ silent.softmax(-1))[1] > 0.2


def test_guidance_is_a_mixture_inside_of_0_to_1():
    coded, null = logits(N, V), logits(N, V, seed=1)
    mixed = mix(torch.stack([coded, null]), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(mixed, guide(coded, null, 0.25))


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [1.0, 0.0], [math.nan, 1.0]])
def test_weights_that_are_none(weights):
    with pytest.raises(IsthmusError, match="weights of codes: got"):
        mix(logits(2, N, V), torch.tensor(weights))


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_guidance_within_the_nucleus_of_the_code(scale, top_p):
    """Plain guidance given that the token is in it: no mass outside, odds kept inside."""
    coded, null = 2 * logits(N, V), 2 * logits(N, V, seed=1)
    plain = guide(coded, null, scale)
    allowed = keep_nucleus(coded, top_p) > -math.inf
    found = within(plain, coded, top_p).softmax(-1)
    assert not allowed.all()
    assert found[~allowed].sum() == 0
    conditional = plain.softmax(-1) * allowed
    torch.testing.assert_close(found, conditional / conditional.sum(-1, keepdim=True))
    # If the code changes nothing it is the code's nucleus itself.
    same = within(guide(coded, coded, scale), coded, top_p)
    torch.testing.assert_close(same.softmax(-1), keep_nucleus(coded, top_p).softmax(-1))


def test_a_nucleus_of_all_is_no_restriction():
    plain = guide(logits(N, V), logits(N, V, seed=1), 3.0)
    assert within(plain, logits(N, V), 1) is plain


def test_a_token_that_the_code_would_not_write_is_not_lifted():
    """Improbable in both, 20 nats more so in l⁻: far guidance takes it, unless it is kept out."""
    coded = torch.tensor([[5.0, 4.0, -10.0]]).double()
    null = torch.tensor([[5.5, 3.5, -30.0]]).double()
    plain = guide(coded, null, 3.0)
    assert plain.argmax(-1).tolist() == [2]
    kept = within(plain, coded, 0.99)
    assert kept.argmax(-1).tolist() == [1]
    # Should all tokens inside be banned, the others are still finite and in their order.
    assert ban(kept, [0, 1]).argmax(-1).tolist() == [2]
