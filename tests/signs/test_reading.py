"""The hidden Markov model by enumeration, and a planted script that looks alone cannot read."""

from itertools import product

import numpy as np
import pytest

from isthmus.signs.merging import merge_states, pair_costs, read_codes
from isthmus.signs.reading import Reading, forward_backward, looks, padded, read_order


def stochastic(generator, *shape):
    found = generator.random(shape)
    return found / found.sum(-1, keepdims=True)


def test_forward_backward_is_enumeration():
    generator = np.random.default_rng(0)
    K, M = 3, 4
    transitions, shares = stochastic(generator, K, K), stochastic(generator, K)
    emission = stochastic(generator, K, M).T
    order = [np.asarray([0, 2, 1, 3]), np.asarray([3, 3])]
    pictures, mask = padded(order)
    found, pairs = forward_backward(emission, transitions, shares, pictures, mask)
    expected, expected_pairs = [], np.zeros((K, K))
    for row in order:
        states, total = np.zeros((len(row), K)), 0.0
        joint = np.zeros((K, K))
        for path in product(range(K), repeat=len(row)):
            chance = shares[path[0]]
            for t, state in enumerate(path):
                chance *= emission[row[t], state]
                chance *= transitions[path[t - 1], state] if t else 1
            total += chance
            for t, state in enumerate(path):
                states[t, state] += chance
                if t:
                    joint[path[t - 1], state] += chance
        expected.append(states / total)
        expected_pairs += joint / total
    assert np.allclose(found, np.concatenate(expected), atol=1e-6)
    assert np.allclose(pairs, expected_pairs, atol=1e-6)


def test_long_sequences_are_cut_and_every_token_is_there_once():
    order = [np.arange(120), np.arange(3), np.arange(50)]
    pictures, mask = padded(order)
    assert mask.sum(1).tolist() == [50, 50, 20, 3, 50]
    assert np.array_equal(pictures[mask], np.concatenate(order))


def test_a_centroid_is_the_mean_of_its_tokens():
    states = np.asarray([[1, 0], [0.5, 0.5], [0, 1]], dtype=np.float32)
    table = np.full((2, 2), 0.5, dtype=np.float32)
    codes = np.asarray([[0.0], [4], [10]])
    found = Reading(states, table, table[0]).centroids(codes, np.asarray([3, 2, 1]))
    assert found.tolist() == [[(0 * 3 + 4 * 1) / 4], [(4 * 1 + 10 * 1) / 2]]


def test_looks_are_normal_densities():
    codes, centroids = np.asarray([[0.0], [1.0]]), np.asarray([[0.0], [2.0]])
    variance = (0 + 1) / 2 * 8
    odds = looks(codes, centroids)
    assert np.allclose(np.log(odds[0, 0] / odds[0, 1]), 4 / (2 * variance), atol=1e-5)
    assert np.allclose(odds[1], 0.5)


def planted(seed=0, signs=6, drawings=8, length=3000):
    """A script in which one follows another by habit, each drawn in two quite different ways.

    Looks are those of twelve shapes, so only the order shows that they are six signs.
    """
    generator = np.random.default_rng(seed)
    habits = 0.7 * np.roll(np.eye(signs), 1, axis=1) + 0.3 * stochastic(generator, signs, signs)
    truth = np.repeat(np.arange(signs), drawings)
    shape = 2 * truth + np.arange(len(truth)) % 2
    codes = 5 * np.eye(2 * signs)[shape] + generator.normal(size=(len(truth), 2 * signs))
    state, tokens = 0, []
    for _ in range(length):
        state = generator.choice(signs, p=habits[state])
        tokens.append(generator.choice(np.flatnonzero(truth == state)))
    return codes, [np.asarray(tokens)], truth


def agree(one, other):
    """Whether two clusterings are the same."""
    return np.array_equal(np.equal.outer(one, one), np.equal.outer(other, other))


@pytest.mark.parametrize("seed", [0, 1])
def test_two_ways_of_drawing_a_sign_are_found_to_be_one(seed):
    codes, order, truth = planted(seed)
    counts = np.bincount(order[0], minlength=len(truth))
    found = read_codes(codes, counts, order, 12, seed)
    assert found.states.shape == (len(truth), 6)
    assert agree(found.states.argmax(1), truth)
    shapes = looks(codes, codes[np.arange(12) % 2 + 8 * (np.arange(12) // 2)]).argmax(1)
    assert len(set(shapes.tolist())) == 12  # what looks alone make of it
    assert np.allclose((found.profiles() ** 2).sum(1), 2, atol=1e-3)


def test_the_order_decides_what_looks_leave_open():
    """Pictures halfway between two signs that never occur in the same context."""
    order = [np.asarray([0, 1, 2, 0, 1, 2, 0, 3, 2] * 20)]
    prior = np.asarray([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.2, 0.4]], dtype=np.float32)
    found = read_order(prior, order)
    assert found.states.argmax(1).tolist() == [0, 1, 2, 1]
    assert np.allclose(found.states.sum(1), 1, atol=1e-5)


def test_the_cost_of_a_merge_is_what_the_likelihood_loses():
    pairs = np.random.default_rng(0).random((5, 5)) * 10

    def likelihood(table):
        return (table * np.log(table / np.outer(table.sum(1), table.sum(0)))).sum()

    for kept, gone in ((0, 3), (2, 4)):
        joined = np.eye(5)
        joined[gone, kept] = 1
        joined = np.delete(joined, gone, axis=1)
        lost = likelihood(pairs) - likelihood(joined.T @ pairs @ joined)
        assert np.isclose(pair_costs(pairs)[kept, gone], lost)


def test_states_that_look_and_stand_alike_merge_and_others_do_not():
    """States 0 and 1 are one sign; 2 looks like them and occurs elsewhere."""
    states = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    sign = np.asarray([0, 0, 1, 2])
    habits = np.asarray([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    transitions = habits[sign][:, sign] / np.bincount(sign)[sign]
    found = Reading(states, transitions.astype(np.float32), np.asarray([1, 1, 2, 2]) / 6)
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(80, 3)) + 5 * np.eye(3)[[0, 0, 0, 1]].repeat(20, axis=0)
    joined = merge_states(found, codes, np.full(80, 20))
    assert agree(joined.argmax(1), sign)


def test_verdicts_multiply_what_tokens_say():
    states = np.asarray([[0.8, 0.2], [0.5, 0.5]], dtype=np.float32)
    found = Reading(states, np.full((2, 2), 0.5), np.full(2, 0.5)).verdicts(np.asarray([3, 0]))
    assert np.allclose(found.states[0, 0], 0.8**3 / (0.8**3 + 0.2**3))
    assert np.allclose(found.states[1], 0.5)
