"""Batches: every sentence once, within the budget, whatever the split; and pure tensors."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from isthmus.data.batches import IGNORED, BucketBatches, Collator, pad
from isthmus.data.denoise import Denoising
from isthmus.data.tokens import Tokens
from isthmus.errors import IsthmusError
from isthmus.latent.noise import CORRUPTION, example_noise, generators

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=300)


@given(
    lengths=LENGTHS,
    tokens=st.one_of(st.none(), st.integers(1, 400)),
    sentences=st.one_of(st.none(), st.integers(1, 40)),
    seed=st.integers(-(2**66), 2**66),
    shuffle=st.booleans(),
)
def test_each_index_once_within_the_budget(lengths, tokens, sentences, seed, shuffle):
    if tokens is None and sentences is None:
        sentences = 7
    batches = BucketBatches(
        lengths,
        tokens_per_batch=tokens,
        sentences_per_batch=sentences,
        seed=seed,
        shuffle=shuffle,
    )
    sizes = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches)
        assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
        for batch in found:
            cost = len(batch) * max(lengths[index] for index in batch)
            assert tokens is None or cost <= tokens or len(batch) == 1
            assert sentences is None or len(batch) <= sentences
        sizes.append(sorted(map(len, found)))
    assert sizes[0] == sizes[1] == sizes[2]


@given(
    lengths=st.lists(st.integers(0, 60), min_size=4, max_size=200),
    tokens=st.one_of(st.integers(1, 400), st.integers(400, 2000)),
    world_size=st.integers(2, 4),
    epoch=st.integers(0, 5),
)
def test_processes_share_the_global_batches(lengths, tokens, world_size, epoch):
    def batches(rank, world_size):
        sampler = BucketBatches(
            lengths, tokens_per_batch=tokens, seed=3, rank=rank, world_size=world_size
        )
        sampler.set_epoch(epoch)
        assert len(sampler) == len(list(sampler))
        return list(sampler)

    ranks = [batches(rank, world_size) for rank in range(world_size)]
    together = [sorted(chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]
    assert all(part for rank in ranks for part in rank)
    assert sorted(chain.from_iterable(together)) == list(range(len(lengths)))
    for parts in zip(*ranks, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if tokens >= 2 * world_size * max(lengths):
        for batch in together:
            assert len(batch) * max(lengths[index] for index in batch) <= tokens
    alone = [sorted(batch) for batch in batches(0, 1)]
    if min(map(len, alone)) >= world_size:
        assert together == alone


def test_a_last_sentence_that_cannot_be_shared_takes_one_from_the_batch_before():
    ranks = [
        list(BucketBatches([10] * 17, tokens_per_batch=40, rank=rank, world_size=2))
        for rank in range(2)
    ]
    sizes = sorted(len(a) + len(b) for a, b in zip(*ranks, strict=True))
    assert sizes == [2, 3, 4, 4, 4]


def test_order_is_a_function_of_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(3, 40, 2000)

    def order(seed, epoch):
        batches = BucketBatches(lengths, tokens_per_batch=300, seed=seed)
        batches.set_epoch(99)
        list(batches)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)


def test_shuffling_mixes_neighbours_and_batches():
    lengths = np.random.default_rng(0).integers(5, 30, 5000)
    batches = BucketBatches(lengths, sentences_per_batch=10)
    partners, means = [], []
    for epoch in range(2):
        batches.set_epoch(epoch)
        found = list(batches)
        partners.append({frozenset(pair) for batch in found for pair in pairwise(batch)})
        means.append([lengths[batch].mean() for batch in found])
    assert len(partners[0] & partners[1]) < 0.02 * len(partners[0])
    # Long batches come anywhere in the epoch, and differently in the next.
    assert abs(np.corrcoef(means[0], range(len(means[0])))[0, 1]) < 0.15
    assert abs(np.corrcoef(means[0], means[1])[0, 1]) < 0.15


def test_little_is_spent_on_padding():
    lengths = np.random.default_rng(0).gamma(6, 3, 20_000).astype(int) + 2
    batches = BucketBatches(lengths, tokens_per_batch=1024)
    spent = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / spent > 0.93


def test_a_small_corpus_is_fully_shuffled():
    batches = BucketBatches(range(1, 33), sentences_per_batch=8)
    found = list(batches)
    assert min(len(set(np.digitize(batch, [10, 20]))) for batch in found) > 1


def test_evaluation_goes_from_the_longest_to_the_shortest():
    lengths = [3, 9, 5, 9, 1]
    batches = BucketBatches(lengths, sentences_per_batch=2, shuffle=False)
    assert list(batches) == [[1, 3], [2, 0], [4]]
    batches.set_epoch(7)
    assert list(batches) == [[1, 3], [2, 0], [4]]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "neither limit is set: give tokens_per_batch"),
        ({"tokens_per_batch": 0}, "tokens_per_batch must be at least 1, got 0"),
        ({"sentences_per_batch": -1}, "sentences_per_batch must be at least 1, got -1"),
        ({"sentences_per_batch": 1, "world_size": 4}, "4 processes cannot share 3 sentences"),
    ],
)
def test_impossible_batches(limits, message):
    with pytest.raises(IsthmusError, match=message):
        BucketBatches([1, 2, 3], **limits)


@given(
    indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=10),
    seed=st.integers(-(2**70), 2**70),
    stream=st.integers(-(2**70), 2**70),
)
def test_noise_of_an_example_does_not_depend_on_its_batch(indices, seed, stream):
    together = example_noise(seed, stream, indices, (3, 5))
    alone = [example_noise(seed, stream, [index], (3, 5)) for index in indices]
    assert torch.equal(together, torch.cat(alone))
    assert together.dtype == torch.float32


def test_noise_is_standard_normal_and_uncorrelated():
    count, size = 2000, 64
    noise = example_noise(7, 0, range(count), (size,)).double()
    total = count * size
    assert abs(noise.mean()) < 4 / total**0.5
    assert abs(noise.var() - 1) < 4 * (2 / total) ** 0.5
    kurtosis = (noise**4).mean() / (noise**2).mean() ** 2
    assert abs(kurtosis - 3) < 4 * (24 / total) ** 0.5
    others = {
        "next index": example_noise(7, 0, range(1, count + 1), (size,)),
        "next stream": example_noise(7, 1, range(count), (size,)),
        "next seed": example_noise(8, 0, range(count), (size,)),
        "next dimension": noise.roll(1, dims=1),
        "arguments exchanged": example_noise(0, 7, range(count), (size,)),
    }
    for name, other in others.items():
        assert abs((noise * other).mean()) < 4 / total**0.5, name


def test_noise_and_corruption_share_no_draw():
    noise = example_noise(0, 0, [5], (4,)).numpy()
    other = next(generators(0, 0, [5], CORRUPTION)).standard_normal(4, dtype=np.float32)
    assert not np.isclose(noise, other).any()


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=9))
def test_padding_is_on_the_right_and_masked(rows):
    ids, mask = pad([np.array(row, dtype=np.int32) for row in rows], -7)
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape[1] == max(map(len, rows))
    for row, padded, kept in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        assert padded == row + [-7] * (len(padded) - len(row))
        assert kept == [1] * len(row) + [0] * (len(padded) - len(row))


def tokens_of(rows, start, end):
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets, start, end, 0, 0)


RANDOM = np.random.default_rng(0)
TEXTS = [RANDOM.integers(10, 99, RANDOM.integers(1, 12)) for _ in range(40)]
ENCODER = tokens_of([np.array([7, *text, 8]) for text in TEXTS], 7, 8)
DECODER = tokens_of([np.array([1, *text, 2]) for text in TEXTS], 1, 2)


def collator(**changes):
    settings = {
        "encoder_pad": 0,
        "decoder_pad": 3,
        "noise_shape": (6,),
        "seed": 5,
        "encoder_mask": 4,
        "decoder_unknown": 5,
    }
    return Collator(ENCODER, DECODER, **(settings | changes))


def unpadded(batch, ids, mask):
    return [row[kept.bool()].tolist() for row, kept in zip(batch[ids], batch[mask], strict=True)]


def test_the_tensors_of_a_batch():
    indices = [3, 0, 39]
    batch = collator()(indices)
    for place, index in enumerate(indices):
        text = TEXTS[index].tolist()
        assert unpadded(batch, "input_ids", "attention_mask")[place] == [7, *text, 8]
        read = batch["decoder_input_ids"][place].tolist()
        assert read == [1, *text] + [3] * (len(read) - len(text) - 1)
        targets = batch["targets"][place].tolist()
        assert targets == [*text, 2] + [IGNORED] * (len(targets) - len(text) - 1)
    assert batch["targets"].shape == batch["decoder_input_ids"].shape
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 0).all()
    assert torch.equal(batch["noise"], example_noise(5, 0, indices, (6,)))
    assert "noise" not in collator(noise_shape=None)(indices)


@given(
    indices=st.lists(st.integers(0, 39), min_size=2, max_size=9, unique=True),
    epoch=st.integers(0, 3),
    rates=st.tuples(*[st.sampled_from([0.0, 0.3, 0.9])] * 3),
)
def test_examples_do_not_depend_on_their_batch(indices, epoch, rates):
    collate = collator(denoising=Denoising(*rates), labels=np.arange(40) % 3, classes=3)
    together = collate(indices, epoch)
    for place, index in enumerate(indices):
        alone = collate([index], epoch)
        for name in ("noise", "labels", "label_noise"):
            assert torch.equal(alone[name][0], together[name][place])
        seen = unpadded(together, "input_ids", "attention_mask")[place]
        assert seen == unpadded(alone, "input_ids", "attention_mask")[0]
        read = alone["decoder_input_ids"][0].tolist()
        assert together["decoder_input_ids"][place].tolist()[: len(read)] == read


@given(rates=st.tuples(*[st.floats(0, 0.99)] * 3), epoch=st.integers(0, 5))
def test_corruption_spares_targets_starts_and_ends(rates, epoch):
    everything = list(range(40))
    clean, corrupt = collator(), collator(denoising=Denoising(*rates))
    expected, found = clean(everything, epoch), corrupt(everything, epoch)
    assert torch.equal(found["targets"], expected["targets"])
    encoder = unpadded(found, "input_ids", "attention_mask")
    decoder = found["decoder_input_ids"].tolist()
    for text, seen, read in zip(TEXTS, encoder, decoder, strict=True):
        assert (seen[0], seen[-1], read[0]) == (7, 8, 1)
        assert 1 <= len(seen) - 2 <= len(text)
        assert set(seen[1:-1]) <= {*text.tolist(), 4}
        kept = [given in (token, 5) for given, token in zip(read[1:], text, strict=False)]
        assert all(kept)


def test_full_corruption_reaches_every_token_between():
    found = collator(denoising=Denoising(masking=1.0, word_dropout=1.0))([3])
    length = len(TEXTS[3])
    assert found["input_ids"][0].tolist() == [7, *[4] * length, 8]
    assert found["decoder_input_ids"][0].tolist() == [1, *[5] * length]


def test_an_encoder_without_start_and_end_is_corrupted_whole():
    plain = tokens_of(TEXTS, None, None)
    collate = Collator(
        plain,
        DECODER,
        encoder_pad=0,
        decoder_pad=0,
        denoising=Denoising(masking=1.0),
        encoder_mask=4,
    )
    assert collate([3])["input_ids"][0].tolist() == [4] * len(TEXTS[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_same_tensors(workers):
    batches = BucketBatches(DECODER.lengths, sentences_per_batch=8, seed=1)
    collate = collator(denoising=Denoising(0.2, 0.2, 0.2))
    loader = DataLoader(range(40), batch_sampler=batches, collate_fn=collate, num_workers=workers)
    for indices, found in zip(batches, loader, strict=True):
        expected = collate(indices)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_epochs_differ_in_noise_and_corruption():
    collate = collator(denoising=Denoising(word_dropout=0.5))
    first, second = collate(list(range(40)), 0), collate(list(range(40)), 1)
    assert not torch.equal(first["noise"], second["noise"])
    assert not torch.equal(first["decoder_input_ids"], second["decoder_input_ids"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_mask": None, "denoising": Denoising(masking=0.1)}, "no mask token"),
        ({"decoder_unknown": None, "denoising": Denoising(word_dropout=0.1)}, "set word_dropout"),
    ],
)
def test_parts_that_do_not_belong_together(changes, message):
    with pytest.raises(IsthmusError, match=message):
        collator(**changes)


def test_a_decoder_needs_a_start():
    plain = tokens_of(TEXTS, None, 2)
    with pytest.raises(IsthmusError, match="need a start"):
        Collator(ENCODER, plain, encoder_pad=0, decoder_pad=0)


def test_encoder_and_decoder_must_have_the_same_texts():
    with pytest.raises(IsthmusError, match="same texts, got 40 and 3"):
        Collator(ENCODER, tokens_of(TEXTS[:3], 1, 2), encoder_pad=0, decoder_pad=0)
