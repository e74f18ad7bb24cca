"""Tokenizers trained here: lossless, deterministic; and corpora as flat arrays."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from isthmus.data import tokens
from isthmus.data.tokens import detokenize, special_ids, tokenize, train_bpe, train_word_level
from isthmus.data.unseen import unseen_share
from isthmus.errors import IsthmusError

CORPUS = [
    "a cat sat on the mat .",
    "the <unk> dog sat on a log , a log of <pad> wood .",
    "the cat saw the dog <eos> and the dog saw it",
]
UNICODE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


@cache
def word_level():
    return train_word_level(CORPUS, 100)


@cache
def bpe():
    return train_bpe(CORPUS * 3, 300)


@pytest.mark.parametrize("make", [word_level, bpe])
def test_special_tokens_have_the_first_five_ids(make):
    names = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"]
    assert make().convert_tokens_to_ids(names) == [0, 1, 2, 3, 4]
    tokenizer = make()
    assert special_ids(tokenizer) == (1, 2, 0)
    assert (tokenizer.unk_token_id, tokenizer.mask_token_id) == (3, 4)


@given(
    st.lists(st.sampled_from(["cat", "dog", "the", ".", ",", "log"])),
    st.text(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2003\u2028\u3000", min_size=1, max_size=3),
)
def test_word_level_gives_known_words_back(words, space):
    text = space + space.join(words) + space
    found = tokenize(word_level(), [text], 50, 1, 2)
    assert len(found) == 1
    assert found.unknown == 0
    assert detokenize(word_level(), [found[0][1:]], 2) == [" ".join(text.split())]


@given(UNICODE)
def test_bpe_gives_any_text_back(text):
    found = tokenize(bpe(), [text], 1000, 1, 2)
    assert found.cut == 0
    assert detokenize(bpe(), [found[0]], 2) == [text]


@given(
    st.lists(st.sampled_from(["<eos>", "<pad>", "<bos>", "<mask>", "<unk>", " ", "a", "log"])).map(
        "".join
    )
)
def test_names_of_special_tokens_within_a_text_are_text(text):
    found = tokenize(bpe(), [text], 1000, 1, 2)
    assert set(found[0][1:-1].tolist()).isdisjoint(range(5))
    assert detokenize(bpe(), [found[0]], 2) == [text]
    words = tokenize(word_level(), [text], 1000, 1, 2)
    assert set(words[0][1:-1].tolist()).isdisjoint({0, 1, 2, 4})


def test_unknown_words_are_counted_and_shown():
    found = tokenize(word_level(), ["the <unk> dog", "the zebra <eos> dog"], 9, 1, 2)
    assert found.unknown == 3
    assert detokenize(word_level(), [found[0], found[1]], 2) == [
        "the <unk> dog",
        "the <unk> <unk> dog",
    ]


def test_word_level_keeps_the_most_frequent_words():
    texts = ["b b b a a d d c"]
    assert set(train_word_level(texts, 8).get_vocab()) - set(tokens.SPECIALS.values()) == set(
        "bad"
    )
    assert train_word_level(texts, 7).get_vocab()["a"] == 6  # a before d, both occur twice
    assert len(train_word_level(texts, 100, minimum_count=3)) == 6


def test_training_is_deterministic_whatever_the_order_of_equal_counts():
    texts = [f"{a}{b} {b}{a}" for a in "abcdefgh" for b in "abcdefgh"]
    for train in (train_bpe, train_word_level):
        first, second = train(texts, 290), train(texts[::-1], 290)
        assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_vocabularies_that_are_too_small():
    with pytest.raises(IsthmusError, match=r"at least 6 \(5 special tokens and one word\), got 5"):
        train_word_level(CORPUS, 5)
    with pytest.raises(IsthmusError, match=r"at least 261 \(5 special tokens and 256 bytes\)"):
        train_bpe(CORPUS, 260)
    with pytest.raises(IsthmusError, match="no word occurs 50 times"):
        train_word_level(CORPUS, 100, minimum_count=50)
    one = train_word_level(["same same"], 100)
    assert tokenize(one, ["same"], 5, 1, 2)[0].tolist() == [1, 5, 2]


@pytest.mark.parametrize("make", [word_level, bpe])
def test_saved_and_loaded_it_is_the_same(make, tmp_path):
    tokens.save(make(), tmp_path)
    loaded = tokens.load(str(tmp_path))
    texts = [*CORPUS, "a cat , sat . don 't", " two  spaces "]
    before, after = tokenize(make(), texts, 50, 1, 2), tokenize(loaded, texts, 50, 1, 2)
    np.testing.assert_array_equal(before.ids, after.ids)
    rows = [before[i] for i in range(len(texts))]
    assert detokenize(loaded, rows, 2) == detokenize(make(), rows, 2)
    assert special_ids(loaded) == (1, 2, 0)


def test_nothing_to_load_is_one_line(tmp_path):
    with pytest.raises(IsthmusError, match="cannot load a tokenizer from") as caught:
        tokens.load(str(tmp_path))
    assert "\n" not in str(caught.value)


@given(
    texts=st.lists(UNICODE, max_size=8),
    maximum=st.integers(3, 40),
    start=st.sampled_from([1, None]),
    end=st.sampled_from([2, None]),
)
def test_tokenize_agrees_with_one_text_at_a_time(texts, maximum, start, end):
    found = tokenize(bpe(), texts, maximum, start, end)
    assert len(found) == len(texts)
    cut = 0
    for index, text in enumerate(texts):
        before, after = [start] * (start is not None), [end] * (end is not None)
        plain = bpe()(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        room = maximum - len(before) - len(after)
        assert found[index].tolist() == before + plain[:room] + after
        cut += len(plain) > room
    assert found.cut == cut
    assert found.ids.dtype == np.int32
    assert found.lengths.sum() == len(found.ids)
    assert f"{cut} text{'' if cut == 1 else 's'} cut" in found.report()


def test_limits_that_a_tokenizer_was_saved_with_do_not_apply(tmp_path):
    tokens.save(bpe(), tmp_path)
    loaded = tokens.load(str(tmp_path))
    loaded.backend_tokenizer.enable_truncation(2)
    loaded.backend_tokenizer.enable_padding(length=9)
    texts = ["the dog sat", "a"]
    np.testing.assert_array_equal(
        tokenize(loaded, texts, 50, 1, 2).ids, tokenize(bpe(), texts, 50, 1, 2).ids
    )


def test_tokens_cannot_be_read_outside():
    found = tokenize(bpe(), ["a", "b"], 9, 1, 2)
    for index in (2, -1):
        with pytest.raises(IndexError, match="of 2"):
            found[index]


@pytest.mark.parametrize(
    ("text", "length", "cut"),
    [
        ("cat " * 2_500_000, 8, 1),
        ("cat" + " " * 2_000_000 + "dog", 4, 0),  # the second word is far away
        ("cat" + " " * 2_000_000 + "dog " * 100, 8, 1),
        ("x" * 1_000_000, 3, 0),  # one unknown word
    ],
)
def test_huge_lines_are_cut_and_counted_rightly(text, length, cut):
    found = tokenize(word_level(), ["the cat", text], 8, 1, 2)
    assert found.lengths.tolist() == [4, length]
    assert found.cut == cut
    assert found[1][-1] == 2
    words = detokenize(word_level(), [found[1]], 2)[0].split()
    assert words == [word if len(word) < 9 else "<unk>" for word in text.split()[:6]]


def test_a_ten_megabyte_line_teaches_and_is_tokenized():
    long = "ab" * 5_000_000
    tokenizer = train_bpe([long, *CORPUS], 300)
    found = tokenize(tokenizer, [long], 32, 1, 2)
    assert (found.cut, found.lengths.tolist()) == (1, [32])
    assert long.startswith(detokenize(tokenizer, [found[0]], 2)[0])
    assert max(map(len, tokenizer.get_vocab())) <= 32  # no token is a whole line


def test_a_pair_seen_once_is_no_token():
    """Otherwise each line of DNA becomes a token of its own, which no other line has."""
    tokenizer = train_bpe(["GATTACA GATTACA", "CCGT", "CAGG"], 5000)
    assert tokenizer.tokenize("GATTACA") == ["GATTACA"]
    assert tokenizer.tokenize("CCGT") == list("CCGT")
    assert len(train_bpe(["CCGT"], 5000, 1)) == len(train_bpe(["CCGT"], 5000)) + 3


def test_ids_are_sorted_by_frequency():
    """An adaptive softmax needs it."""
    texts = ["the red cat sat", "the dog saw the cat", "a zebra"] * 40 + ["the cat"] * 50
    for train in (train_bpe, train_word_level):
        tokenizer = train(texts, 400)
        ids = tokenize(tokenizer, texts, 50, None, 2).ids
        counts = np.bincount(ids, minlength=len(tokenizer))
        assert (np.diff(counts[5:]) <= 0).all()
        assert counts[5] > 100
        assert tokenizer.convert_tokens_to_ids(list(tokens.SPECIALS.values())) == list(range(5))


def test_unseen_tokens_are_those_of_no_training_text():
    def of(*texts):
        return tokenize(word_level(), texts, 50, 1, 2)

    training = of("a cat sat", "the mat")
    assert unseen_share(of("a cat", "the mat the mat"), training) == (0, 0)
    found = unseen_share(of("a dog saw a dog", "the mat"), training)
    assert found == (3 / 7, 2 / 5)
    # Of words that the vocabulary lacks training knows nothing, unless it has some too.
    assert unseen_share(of("x y a"), training) == (2 / 3, 1 / 2)
    assert unseen_share(of("x y a"), of("z a")) == (0, 0)
    assert unseen_share(of(), training) == (0, 0)


def test_no_room_for_a_token():
    with pytest.raises(IsthmusError, match="maximum_length must be at least 3, got 2"):
        tokenize(bpe(), ["a"], 2, 1, 2)
    assert len(tokenize(bpe(), [], 3, 1, 2)) == 0


def test_detokenize_stops_at_the_first_end_and_takes_tensors():
    ids = torch.tensor([[1, 5, 6, 2, 7, 2], [2, 5, 5, 5, 5, 5], [5, 0, 3, 4, 6, 0]])
    vocabulary = {place: word for word, place in word_level().get_vocab().items()}
    a, b = vocabulary[5], vocabulary[6]
    assert detokenize(word_level(), ids, 2) == [f"{a} {b}", "", f"{a} <unk> {b}"]
    assert detokenize(word_level(), ids[:0], 2) == []


def plain_tokenizer(words, **named):
    vocabulary = {word: place for place, word in enumerate([*words, "a", "b"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, **named)


@pytest.mark.parametrize(
    ("words", "named", "expected"),
    [
        # BERT
        (
            ["[PAD]", "[CLS]", "[SEP]"],
            {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
            (1, 2, 0),
        ),
        # ModernBERT knows the text separator of its language-model ancestors, too
        (["<|endoftext|>", "[CLS]", "[SEP]"], {"cls_token": "[CLS]", "sep_token": "[SEP]"},
         (1, 2, 2)),
        # Llama: no pad token
        (["<unk>", "<s>", "</s>"], {"bos_token": "<s>", "eos_token": "</s>"}, (1, 2, 2)),
        # GPT-2
        (["x", "<|endoftext|>"], {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
         (1, 1, 1)),
        # SmolLM2-Instruct: bos, eos and pad belong to the chat
        (["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
         {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
         (0, 0, 2)),
        # Qwen: no bos
        (["<|endoftext|>", "<|im_end|>"],
         {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, (0, 0, 0)),
        # Phi-3: a start token of its own
        (["<s>", "<|endoftext|>"], {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
         (0, 1, 1)),
        # T5: no start token
        (["<pad>", "</s>"], {"eos_token": "</s>", "pad_token": "<pad>"}, (None, 1, 0)),
    ],
)  # fmt: skip
def test_special_ids_of_known_families(words, named, expected):
    assert special_ids(plain_tokenizer(words, **named)) == expected


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(IsthmusError, match="no token that ends a text: set its eos_token"):
        special_ids(plain_tokenizer(["<s>"], bos_token="<s>"))


def test_the_share_of_unknown_words_is_one_of_words():
    """Neither the start nor the end of a text is a word; the advice is another tokenizer."""
    chinese = tokenize(word_level(), ["他昨天来了", "我不知道"], 9, 1, 2)
    assert chinese.report() == (
        "2 texts, 6 tokens; 0 texts cut; 2 words unknown (100.00%); "
        "train with another tokenizer (--data.tokenizer bpe)"
    )
    assert chinese.lost(["他昨天来了"]) == "2 of 2 words unknown: 他昨天来了, …"
    most = tokenize(word_level(), ["the dog " * 10 + "zebra"], 40, 1, 2)
    assert most.report().endswith("1 word unknown (4.76%)")
    assert tokens.unknown_words(word_level(), ["the zebra", "a zebra ibis dog"]) == [
        *("zebra", "ibis"),
    ]
    cut = tokenize(bpe(), ["the dog sat", "a"], 4, 1, 2)
    assert cut.lost() == "1 of 2 texts cut"
    assert tokenize(bpe(), ["the dog"], 40, 1, 2).lost() == ""
