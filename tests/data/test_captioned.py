"""Pictures with captions: where each caption goes, what is missing, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import captioned, pictures, scenes
from isthmus.data import corpus as texts
from isthmus.errors import IsthmusError


def levels(count: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def folder(path: Path, captions: str | None, count: int = 3) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for place, picture in enumerate(levels(count)):
        Image.fromarray(picture).save(path / f"{place}.png")
    if captions is not None:
        (path / "captions.tsv").write_text(captions, encoding="utf-8")
    return path


def told(corpus: captioned.CaptionedCorpus) -> list[tuple[bool, str | None]]:
    return [(example.picture is not None, example.caption) for example in corpus.examples]


def test_scenes_have_the_sentence_that_each_picture_was_drawn_from():
    corpus = captioned.read("scenes", split="valid", limit=20)
    for example, sentence in zip(corpus.examples, scenes.generate("valid", 20), strict=True):
        assert example.caption == sentence.text
        drawn = scenes.render(scenes.factors(example.caption))
        assert (example.picture == np.moveaxis(drawn, -1, 0)).all()
        assert example.label == sentence.factors["style"]


def test_captions_of_a_folder_go_to_their_files(tmp_path):
    lines = "1.png\ta cat\n0.png\ta dog\n1.png\ttwo cats\n\n\ta text alone\n9.png\tnot there\n"
    corpus = captioned.read(str(folder(tmp_path / "d", lines)))
    assert told(corpus) == [
        (True, "a dog"),
        (True, "a cat"),
        (True, "two cats"),
        (True, None),
        (False, "a text alone"),
    ]
    assert corpus.names == ["0.png", "1.png", "1.png", "2.png", "a text alone"]
    assert corpus.skipped == {"captions of pictures that are not there": 1}
    assert "5 examples, 4 with a picture of 6×6, RGB, 4 with a caption" in corpus.report()
    assert "skipped 1 captions of pictures that are not there" in corpus.report()


def test_labels_come_from_sub_folders_and_from_lines(tmp_path):
    lines = "cat/0.png\ta cat\n0.png\ta dog\tdog\ncat/1.png\ta pup\tdog\n\ta cat\tcat\n\ta fox\t\n"
    place = folder(tmp_path / "d", lines, count=2)
    folder(place / "cat", None, count=2)
    corpus = captioned.read(str(place))
    found = {
        (name, one.caption): one.label
        for name, one in zip(corpus.names, corpus.examples, strict=True)
    }
    assert found == {
        ("0.png", "a dog"): "dog",
        ("1.png", None): None,  # beside the sub-folders
        ("cat/0.png", "a cat"): "cat",
        ("cat/1.png", "a pup"): "dog",  # the line says so
        ("a cat", "a cat"): "cat",
        ("a fox", "a fox"): None,
    }
    assert corpus.labels is None
    assert "4 with one of 2 labels" in corpus.report()


def test_an_empty_label_of_an_npz_file_is_none(tmp_path):
    file = tmp_path / "d.npz"
    texts = {"captions": np.array(["a", "", "c"]), "labels": np.array(["one", "", "."])}
    np.savez(file, images=levels(3), **texts)
    corpus = captioned.read(str(file))
    assert [(e.caption, e.label) for e in corpus.examples] == [
        ("a", "one"),
        (None, None),
        ("c", "."),
    ]
    whole = captioned.read("scenes", limit=5)
    assert whole.labels == [example.label for example in whole.examples]


@pytest.mark.parametrize("line", ["no tab here", "0.png\ta\tb\tc", "0.png\t", "0.png\t   "])
def test_a_line_of_another_form_is_named(tmp_path, line):
    place = folder(tmp_path / "d", f"0.png\ta dog\n{line}\n")
    with pytest.raises(IsthmusError, match=r"captions.tsv, line 2: .* expected FILE TAB CAPTION"):
        captioned.read(str(place))


def test_the_list_of_captions_is_no_bad_picture(tmp_path):
    place = folder(tmp_path / "d", "0.png\ta dog\n")
    assert pictures.read(str(place)).skipped == {}


def test_folders_of_splits_have_their_own_captions(tmp_path):
    for split in ("train", "valid", "test"):
        folder(tmp_path / "d" / split, f"0.png\ta {split} dog\n", count=2)
    splits = captioned.read_splits(str(tmp_path / "d"))
    assert told(splits.valid) == [(True, "a valid dog"), (True, None)]
    assert splits.repeated == {"valid": 2, "test": 2}  # the same pictures in all
    assert told(captioned.read(str(tmp_path / "d")))[0] == (True, "a test dog")


def test_pictures_without_captions_are_taken_and_it_is_said():
    corpus = captioned.read("digits", limit=5)
    assert told(corpus) == [(True, None)] * 5
    assert "no captions (expected a captions.tsv" in corpus.report()
    assert [example.label for example in corpus.examples] == pictures.read("digits").labels[:5]


def test_texts_without_pictures_are_taken(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    corpus = captioned.read(str(path))
    assert told(corpus) == [(False, "one"), (False, "two")]
    assert corpus.names == ["one", "two"]


def test_captions_beside_the_pictures_of_an_npz_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=levels(3), captions=np.array([["a", "b"], ["c", ""], ["", ""]]))
    assert told(captioned.read(str(path))) == [
        (True, "a"),
        (True, "b"),
        (True, "c"),
        (True, None),
    ]


def test_a_line_ends_where_files_of_texts_say(tmp_path):

    told = "00.png\tone\u2028two\x85three\r\n01.png\tfour\n"
    (tmp_path / "captions.tsv").write_text(told, encoding="utf-8", newline="")
    captions = captioned.read_captions(tmp_path / "captions.tsv")
    assert {name: [each.text for each in own] for name, own in captions.items()} == {
        "00.png": ["one\u2028two\x85three"],
        "01.png": ["four"],
    }


def test_what_a_reader_of_texts_noted_is_kept(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("label,text\nl,one\nl,two\n", encoding="utf-8")
    corpus = captioned.read(str(path))
    assert corpus.notes == texts.read(str(path)).notes != []
    assert corpus.labels == ["l", "l"]


def test_keywords_make_captions_of_three(tmp_path):
    path = tmp_path / "x.npz"
    words = np.array(["cat, pet, animal, cat, whiskers, , fur, tail", "", "sun"])
    np.savez(path, images=levels(3), name=np.array(["cat", "dog", "star"]), keywords=words)
    assert [caption for _, caption in told(captioned.read(str(path)))] == [
        "cat",
        "pet, animal, whiskers",
        "fur, tail",
        "dog",
        "star",
        "sun",
    ]


def test_captions_of_another_number_or_kind_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=levels(3), captions=np.array(["a", "b"]))
    with pytest.raises(IsthmusError, match=r"shape \[2\] .* expected texts for 3 pictures"):
        captioned.read(str(path))
    for wrong in (
        {"captions": np.array([1, 2])},
        {"captions": np.array("a")},
        {"keywords": np.array([1, 2])},
        {"keywords": np.array(["a"])},
    ):
        np.savez(path, images=levels(2), **wrong)
        with pytest.raises(IsthmusError, match="expected texts for 2 pictures under images"):
            captioned.read(str(path))


def test_all_captions_of_a_picture_are_held_out_together(tmp_path):
    path = tmp_path / "x.npz"
    names = np.array([[f"{n} one", f"{n} two", f"{n} three"] for n in range(40)])
    np.savez(path, images=levels(40), captions=names)
    splits = captioned.read_splits(str(path))
    held = {example.caption.split()[0] for example in splits.valid.examples}
    assert len(splits.valid) == 3 * len(held) == 6
    assert held.isdisjoint({example.caption.split()[0] for example in splits.train.examples})
    assert splits.repeated == {"valid": 0}


def test_the_fingerprint_sees_captions_and_pictures(tmp_path):
    place = tmp_path / "d"
    prints = set()
    for captions, count in (("0.png\ta\n", 3), ("0.png\tb\n", 3), ("1.png\ta\n", 3), ("", 3)):
        prints.add(captioned.read(str(folder(place, captions, count))).fingerprint)
    assert len(prints) == 4


def test_one_example_is_too_few(tmp_path):
    with pytest.raises(IsthmusError, match="training needs at least 2"):
        captioned.read_splits(str(folder(tmp_path / "d", "0.png\ta\n", count=1)))
