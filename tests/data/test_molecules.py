"""Other spellings of a molecule: the same molecule, in training only, on both sides."""

from __future__ import annotations

import pytest

from isthmus.data.denoise import Denoising
from isthmus.data.molecules import spelled_anew, with_spellings
from isthmus.data.symbols import train_tokenizer
from isthmus.errors import IsthmusError
from isthmus.models.codec import make_codec

chemistry = pytest.importorskip("rdkit.Chem", reason="the extra molecules is not installed")

MOLECULES = ["CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)O", "O=C1CCCN1c1ccc(Br)s1", "C/C=C/CCl", "C"]


def canonical(text: str) -> str:
    return chemistry.MolToSmiles(chemistry.MolFromSmiles(text))


@pytest.mark.parametrize("text", MOLECULES)
def test_another_spelling_is_the_same_molecule(text):
    found = [spelled_anew(text, seed) for seed in range(30)]
    assert {canonical(one) for one in found} == {canonical(text)}
    assert found == [spelled_anew(text, seed) for seed in range(30)]
    assert len(set(found)) > 3 or len(text) < 2


@pytest.mark.parametrize("text", ["a cat sat", "c1ccc", ""])
def test_what_is_no_molecule_is_refused(text):
    with pytest.raises(IsthmusError, match=r"no molecule in .*--data.randomised"):
        spelled_anew(text, 0)


@pytest.fixture(scope="module")
def examples():
    tokenizer = train_tokenizer("smiles", with_spellings(MOLECULES * 100), 400)
    return make_codec(tokenizer, tokenizer, 60).prepare(MOLECULES)


def written(examples, indices, **changes) -> tuple[list[str], list[str]]:
    """What the encoder reads, and what the decoder has to write."""
    batch = examples.collate(indices, **changes)
    tokenizer = examples.codec.decoder_tokenizer
    targets = batch["targets"].clamp_min(0)
    return tuple(
        [text.replace(" ", "") for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        for ids in (batch["input_ids"], targets)
    )


def test_training_reads_and_writes_one_other_spelling_in_each_epoch(examples):
    all_, places = Denoising(randomised=1.0), list(range(len(MOLECULES)))
    epochs = [written(examples, places, epoch=epoch, denoising=all_) for epoch in range(8)]
    for read, wrote in epochs:
        assert read == wrote
        assert list(map(canonical, wrote)) == list(map(canonical, MOLECULES))
    assert len({wrote[0] for _, wrote in epochs}) > 3
    # A function of the example and the epoch, not of its batch.
    assert written(examples, [2], epoch=3, denoising=all_)[1] == [epochs[3][1][2]]


def test_some_are_spelled_anew_and_none_where_nothing_is_asked(examples):
    places = list(range(len(MOLECULES)))
    assert written(examples, places)[1] == MOLECULES
    half = [
        text == own
        for epoch in range(60)
        for text, own in zip(
            written(examples, [0, 1], epoch=epoch, denoising=Denoising(randomised=0.5))[1],
            MOLECULES,
            strict=False,
        )
    ]
    assert 0.4 < sum(half) / len(half) < 0.75
