"""Strings without words: characters and symbols, lossless, nothing unknown, no advice on words."""

from __future__ import annotations

import gzip
import random
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.choice import Machine, choose, reasons
from isthmus.data.profile import has_words, profile
from isthmus.data.symbols import train_tokenizer
from isthmus.data.tokens import detokenize, load, save, tokenize, unknown_words
from isthmus.data.unseen import unseen_share
from isthmus.errors import IsthmusError
from isthmus.training.unseen import unseen_line

MOLECULES = Path(__file__).parents[3] / "shared" / "data" / "molecules"
ODD = st.lists(
    st.sampled_from(["C", "[nH]", "%12", "Cl", "<", "<pad>", "<0x0A>", "[", "é", "\n"])
).map("".join)
ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


@cache
def trained(kind: str):
    """From texts with a rare character, so that the alphabet is an open one."""
    return train_tokenizer(kind, ["C[nH]Cl(%12)Br", "[nH]C(Cl)%12Br", "C?"], 400)


def back(tokenizer, texts):
    found = tokenize(tokenizer, texts, 1000, 1, 2)
    return found, detokenize(tokenizer, [found[place][1:] for place in range(len(found))], 2)


@pytest.mark.parametrize("kind", ["character", "smiles"])
@given(st.one_of(ODD, ANY))
def test_any_text_comes_back(kind, text):
    found, texts = back(trained(kind), [text])
    assert texts == [text]
    assert found.unknown == found.cut == 0


def test_the_symbols_of_smiles_stay_whole():
    symbols = ["Br", "C", "[C@@H]", "(", "Cl", ")", "c", "%10", "n", "[nH]", "%(123)", "="]
    symbols += ["S", "c", "1", "/", "\\", "[13CH3+]", ".", "#", "O", "I"]
    assert train_tokenizer("smiles", ["".join(symbols)] * 2, 100).tokenize("".join(symbols)) == (
        symbols
    )


def test_a_rare_symbol_is_its_characters_and_a_rare_character_its_bytes():
    tokenizer = trained("smiles")
    assert tokenizer.tokenize("[nH]?[n]") == ["[nH]", "<0x3F>", "<0x5B>", "<0x6E>", "<0x5D>"]
    assert trained("character").tokenize("[n]") == ["[", "n", "]"]


def test_where_every_character_is_frequent_another_one_is_unknown_and_named():
    tokenizer = train_tokenizer("character", ["ACGT", "TTGACA"], 300)
    assert len(tokenizer) == 5 + 4
    found, texts = back(tokenizer, ["ACXTÜ"])
    assert texts == ["AC<unk>T<unk>"]
    assert found.lost(unknown_words(tokenizer, ["ACXTÜ"])) == "2 of 5 tokens unknown: X, Ü"


def test_the_vocabulary_keeps_to_its_size():
    texts = ["".join(chr(0x4E00 + n) * 2 for n in range(300))]
    assert len(train_tokenizer("character", texts, 300)) == 300
    with pytest.raises(IsthmusError, match="at least 262"):
        train_tokenizer("character", texts, 100)


@pytest.mark.parametrize("kind", ["character", "smiles"])
def test_a_saved_tokenizer_reads_the_same(kind, tmp_path):
    save(trained(kind), tmp_path)
    texts = ["C[nH]Cl(%12)Br[Se]é"]
    assert load(str(tmp_path))(texts)["input_ids"] == trained(kind)(texts)["input_ids"]
    assert back(load(str(tmp_path)), texts)[1] == texts


def test_the_symbols_of_selfies_stay_whole():
    selfies = pytest.importorskip("selfies", reason="the extra molecules is not installed")
    texts = [selfies.encoder(text) for text in ("CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)O")] * 2
    tokenizer = train_tokenizer("smiles", texts, 100)
    assert [tokenizer.tokenize(text) for text in texts] == [
        list(selfies.split_selfies(text)) for text in texts
    ]


@pytest.mark.skipif(not MOLECULES.is_dir(), reason="the molecules are not there")
@pytest.mark.parametrize("kind", ["character", "smiles"])
def test_of_molecules_nothing_is_unknown_and_all_comes_back(kind):
    texts = {}
    for split in ("train", "valid", "test"):
        with gzip.open(MOLECULES / f"{split}.txt.gz", "rt", encoding="utf-8") as file:
            texts[split] = [line.strip() for line in islice(file, 20_000)]
    tokenizer = train_tokenizer(kind, texts.pop("train"), 100)
    for part in texts.values():
        found, there = back(tokenizer, part)
        assert there == part
        assert found.unknown == 0


def dna(draw: random.Random) -> str:
    return "".join(draw.choices("ACGT", k=draw.randint(20, 60)))


def peptide(draw: random.Random) -> str:
    return "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(8, 50)))


def molecule(draw: random.Random) -> str:
    ends = ["Br", "Cl", "C", "N", "O", "[nH]", "C(=O)O", "[C@H](F)C", "C#N"]
    rings = ["c1ccccc1", "C1CCNCC1", "c1cc[nH]c1", "c1ccsc1"]
    return "".join(draw.choice(ends) + draw.choice(rings) for _ in range(draw.randint(1, 3)))


def chinese(draw: random.Random) -> str:
    # A few thousand signs, as frequent as Zipf would have them: some stand in one text only.
    signs = [chr(0x4E00 + int(3_000 ** draw.random())) for _ in range(draw.randint(5, 25))]
    return "".join(signs) + "。"


def chess(draw: random.Random) -> str:
    moves = (f"{draw.choice('NBRQK')}{draw.choice('abcdefgh')}{draw.randint(1, 8)}" for _ in "…")
    pawns = [f"{draw.choice('abcdefgh')}{draw.randint(3, 6)}" for _ in range(draw.randint(4, 9))]
    return " ".join([*pawns, *moves, "O-O"])


@pytest.mark.parametrize("make", [dna, peptide, molecule, chinese, chess])
@pytest.mark.parametrize("kind", [None, "character"])
def test_five_thousand_strings_of_any_kind_are_read_whole(make, kind):
    draw = random.Random(0)
    texts = [make(draw) for _ in range(5_000)]
    training, held = texts[:-500], texts[-500:]
    looks, machine = profile(training, None, kind), Machine("2 cores", 2e11)
    settings = choose(looks, machine, 10)
    data = settings.data
    tokenizer = train_tokenizer(data.tokenizer, training, data.vocabulary_size)
    found = tokenize(tokenizer, held, data.maximum_length, 1, 2)
    assert data.tokenizer == (kind or ("word" if make is chess else "bpe"))
    assert found.unknown == found.cut == 0
    assert "--data" not in found.report()
    assert detokenize(tokenizer, [found[place][1:] for place in range(500)], 2) == held
    # A move of chess is a word; nothing else here is.
    assert looks.has_words == has_words(held) == (make is chess)
    [line, *_] = reasons(settings, looks, machine)
    assert ("words each" in line) == (make is chess)
    shares = unseen_share(found, tokenize(tokenizer, training, data.maximum_length, 1, 2))
    assert unseen_line(shares, settings).endswith("occur in no training text")
