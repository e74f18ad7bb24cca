"""DATA of pictures: every source, and every way in which a picture can be bad."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from isthmus.data import pictures, scenes
from isthmus.data.corpus import read as read_texts
from isthmus.data.pictures import names_one, read, read_one, read_splits, write_grid
from isthmus.errors import IsthmusError

RED = np.full((6, 8, 3), (200, 40, 40), dtype=np.uint8)
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def folder_of(place: Path, **files: np.ndarray | bytes | Image.Image) -> Path:
    """A folder of PNG files; __ in a name is a sub-folder."""
    for name, content in files.items():
        path = place / (name.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            image = Image.fromarray(content) if isinstance(content, np.ndarray) else content
            image.save(path)
    return place


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
GOOD = {f"good{i}": RED + np.uint8(i) for i in range(3)}
SIXTEEN = Image.fromarray((GREY.astype(np.uint16) * 257)[::-1])
PALETTE = Image.fromarray(RED).quantize(4)

BAD = {
    "truncated": (png(NOISE)[:3000], "skipped truncated.png: damaged (", "expected a whole"),
    "cut_header": (png(NOISE)[:20], "skipped cut_header.png: ", "expected"),
    "text": (b"no picture at all", "skipped text.png: not a picture", "expected PNG, JPEG"),
    "empty": (b"", "skipped empty.png: not a picture", "expected PNG"),
    "larger": (np.zeros((9, 8, 3), np.uint8), "skipped larger.png: 9×8, expected 6×8", "resize"),
    "one": (np.zeros((1, 1, 3), np.uint8), "skipped one.png: 1×1, expected 6×8", "resize"),
    "grey": (GREY, "grey.png: grey among RGB pictures", "made like them"),
    "sixteen": (SIXTEEN, "sixteen.png: 16 bits a value brought to 8", "grey among RGB"),
    "palette": (PALETTE, "palette.png: palette replaced by its colours", ""),
    "alpha": (
        Image.fromarray(np.dstack([RED, np.full((6, 8), 9, np.uint8)])),
        "alpha.png: transparency laid on white",
        "",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_gets_one_line_and_stops_nothing(tmp_path, name):
    content, start, end = BAD[name]
    corpus = read(str(folder_of(tmp_path, **GOOD, **{name: content})))
    [line] = corpus.warnings
    assert line.startswith(start)
    assert end in line
    assert "\n" not in line
    kept = not line.startswith("skipped")
    assert len(corpus) == 3 + kept
    assert (f"{name}.png" in corpus.names) == kept
    assert sum(corpus.skipped.values()) == 1 - kept
    for i in range(3):
        place = corpus.names.index(f"good{i}.png")
        assert (corpus.pictures[place] == np.moveaxis(RED + np.uint8(i), -1, 0)).all()


def test_all_bad_pictures_at_once(tmp_path):
    files = GOOD | {name: content for name, (content, _, _) in BAD.items()}
    corpus = read(str(folder_of(tmp_path, **files)))
    assert len(corpus.warnings) == len(BAD)
    for start in (start for _, start, _ in BAD.values()):
        assert sum(line.startswith(start) for line in corpus.warnings) == 1
    assert corpus.skipped == {"not readable": 4, "of another size": 2}


def test_of_very_many_bad_pictures_some_are_named_and_all_are_counted(tmp_path):
    folder_of(tmp_path, **GOOD, **{f"bad{i}": b"x" for i in range(50)})
    corpus = read(str(tmp_path))
    assert len(corpus.warnings) == 21
    assert corpus.warnings[-1] == "… and 30 more pictures skipped or converted"
    assert "50 not readable" in corpus.report()


def only(path: Path) -> np.ndarray:
    return read(str(path)).pictures[0]


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **options) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_values_of_every_form(tmp_path):
    """What a picture means does not depend on how its file stores it."""
    assert (only(saved(tmp_path, Image.fromarray(GREY)))[0] == GREY).all()
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert (only(saved(tmp_path, sixteen))[0] == GREY).all()
    grey_palette = Image.fromarray(GREY).convert("P")
    assert only(saved(tmp_path, grey_palette)).shape == (1, 6, 8)
    assert (only(tmp_path / "x.png")[0] == GREY).all()
    bits = Image.fromarray(GREY > 100)
    assert (only(saved(tmp_path, bits))[0] == np.where(GREY > 100, 255, 0)).all()
    palette = Image.fromarray(RED).quantize(4)
    assert (only(saved(tmp_path, palette)) == np.moveaxis(RED, -1, 0)).all()
    cmyk = Image.fromarray(RED).convert("CMYK")
    assert (only(saved(tmp_path, cmyk, "x.tif")) == np.moveaxis(RED, -1, 0)).all()
    turned = Image.fromarray(GREY[::-1, ::-1].copy())
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half a circle
    assert (only(saved(tmp_path, turned, exif=exif))[0] == GREY).all()


@pytest.mark.parametrize("alpha", [0, 51, 255])
def test_transparency_is_laid_on_white(tmp_path, alpha):
    layer = np.full((6, 8), alpha, np.uint8)
    expected = GREY * (alpha / 255) + 255 * (1 - alpha / 255)
    both = saved(tmp_path, Image.fromarray(np.dstack([GREY, layer]), mode=None))
    assert np.abs(only(both)[0] - expected).max() <= 1
    colour = saved(tmp_path, Image.fromarray(np.dstack([RED, layer])))
    on_white = np.moveaxis(RED * (alpha / 255) + 255 * (1 - alpha / 255), -1, 0)
    assert np.abs(only(colour) - on_white).max() <= 1


def test_other_sizes_are_taken_where_that_is_asked(tmp_path):
    wide = np.zeros((6, 24), np.uint8)
    wide[:, 12:] = 240
    folder_of(tmp_path, a=GREY, b=GREY + np.uint8(1), wide=wide)
    stretched = read(str(tmp_path), fit="resize")
    assert stretched.pictures.shape == (3, 1, 6, 8)
    assert stretched.pictures[2, 0, :, 0].max() < 20
    assert stretched.pictures[2, 0, :, -1].min() > 220
    assert stretched.warnings == ["wide.png: 6×24 resized to 6×8"]
    padded = read(str(tmp_path), fit="pad").pictures[2, 0]
    assert (padded[0] == 0).all()  # the corner's colour around a picture shrunk to 2×8
    assert padded[2:4, -1].min() > 200


def test_sub_folders_are_labels_and_names_of_splits_are_splits(tmp_path):
    a, b, c = (GREY + np.uint8(i) for i in range(3))
    folder_of(tmp_path, cats__2=a, cats__10=b, dogs__1=c)
    corpus = read(str(tmp_path), split="train")
    assert corpus.names == ["cats/10.png", "cats/2.png", "dogs/1.png"]
    assert corpus.labels == ["cats", "cats", "dogs"]
    folder_of(tmp_path / "parts", train__x__1=a, train__y__1=b, dev__x__1=c, test__y__1=c)
    splits = read_splits(str(tmp_path / "parts"))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [2, 1, 1]
    assert splits.train.labels == ["x", "y"]
    assert splits.valid.labels == ["x"]


def test_a_folder_of_pictures_given_as_texts_is_told_what_it_is(tmp_path):
    folder_of(tmp_path, cats__a=GREY)
    with pytest.raises(IsthmusError, match=r"has pictures and no train.*--recipe picture-vae"):
        read_texts(str(tmp_path))


def test_hidden_files_are_no_pictures(tmp_path):
    folder_of(tmp_path, a=GREY)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert read(str(tmp_path)).warnings == []


def test_arrays(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 5, 4), np.uint8)
    np.savez(tmp_path / "a.npz", train_x=x, train_y=np.arange(9) % 2, test_x=x[:2])
    train = read(str(tmp_path / "a.npz"), split="train")
    assert (train.pictures[:, 0] == x).all()
    assert train.labels == [str(i % 2) for i in range(9)]
    assert read(str(tmp_path / "a.npz")).labels is None
    colours = np.stack([x, x, 255 - x], axis=-1)
    np.savez(tmp_path / "b.npz", images=colours, category=np.array(["k"] * 9), name=x[:, 0])
    coloured = read(str(tmp_path / "b.npz"))
    assert (coloured.pictures == np.moveaxis(colours, -1, 1)).all()
    assert coloured.labels == ["k"] * 9
    for values in (x / 255, x.astype(np.int64), x.astype(np.uint16) * 257):
        np.savez(tmp_path / "c.npz", images=values)
        assert (read(str(tmp_path / "c.npz")).pictures[:, 0] == x).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": np.zeros((2, 4, 4))}, "has values; expected train_x"),
        ({"images": np.zeros((2, 4))}, r"the shape \[2, 4\]; expected \[N H W\]"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8)}, "C = 1"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "no picture"),
        ({"images": np.full((2, 4, 4), 1.5)}, "from 1.5 to 1.5; expected integers"),
        ({"images": np.full((2, 4, 4), -3)}, "from -3 to -3; expected integers"),
        ({"images": np.full((2, 4, 4), np.nan)}, "not finite"),
        ({"images": np.array([["a", "b"]] * 2)[None]}, "no numbers"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "label": np.zeros(3)}, "one label for each"),
        ({"images": np.array([{}, {}], dtype=object)}, "damaged or not an .npz"),
    ],
)
def test_arrays_that_are_no_pictures_get_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", allow_pickle=True, **arrays)
    with pytest.raises(IsthmusError, match=message) as error:
        read(str(tmp_path / "x.npz"))
    assert "\n" not in str(error.value)


def test_a_damaged_archive_gets_one_line(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (50, 9, 9), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", images=x)
    whole = (tmp_path / "x.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"", zlib.compress(b"x")):
        (tmp_path / "x.npz").write_bytes(damaged)
        with pytest.raises(IsthmusError, match=r"damaged or not an \.npz") as error:
            read(str(tmp_path / "x.npz"))
        assert "\n" not in str(error.value)


def test_what_is_no_source_of_pictures_gets_one_line(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "nothing").mkdir()
    for data, message in (
        (tmp_path / "x.txt", "has no picture among 1 file; skipped x.txt: not a picture"),
        (tmp_path / "nothing", "has no picture among 0 files"),
        (tmp_path / "absent", "does not exist; expected a folder of pictures"),
    ):
        with pytest.raises(IsthmusError, match=message):
            read(str(data))


def test_a_run_reads_pictures_in_its_own_shape(tmp_path):
    folder_of(tmp_path, a=GREY, b=RED, large=np.zeros((9, 9), np.uint8))
    grey = read(str(tmp_path), shape=(1, 6, 8))
    assert grey.names == ["a.png", "b.png"]
    luma = round(0.299 * 200 + 0.587 * 40 + 0.114 * 40)
    assert (grey.pictures[1] == luma).all()
    with pytest.raises(IsthmusError, match="pictures of 8×8, grey, expected 6×8, grey"):
        read("digits", shape=(1, 6, 8))
    assert read("digits", shape=(3, 9, 9), fit="resize").shape == (3, 9, 9)


def test_one_picture_by_name(tmp_path):
    folder_of(tmp_path, a=GREY)
    assert (read_one(str(tmp_path / "a.png"), (1, 6, 8))[0] == GREY).all()
    expected = read("digits", split="test").pictures[5]
    assert (read_one("digits#5", (1, 8, 8)) == expected).all()
    digits = read("digits", split="train")
    assert (read_one(digits.names[9], digits.shape) == digits.pictures[9]).all()
    np.savez(tmp_path / "x.npz", train_x=GREY[None], test_x=GREY[None] + np.uint8(1))
    for split in ("train", "test"):
        corpus = read(str(tmp_path / "x.npz"), split=split)
        assert (read_one(corpus.names[0], (1, 6, 8)) == corpus.pictures[0]).all()
    with pytest.raises(IsthmusError, match="has 200 pictures, from #0"):
        read_one("digits#200", (1, 8, 8))
    with pytest.raises(IsthmusError, match="a number from 0, got 'x'"):
        read_one("digits#x", (1, 8, 8))


def test_digits_are_all_there_once():
    parts = [read("digits", split=split) for split in ("train", "valid", "test")]
    stored = load_digits()
    expected = sorted(
        zip(stored.images.astype(int).reshape(-1, 64).tolist(), stored.target, strict=True)
    )
    found = [
        ((picture.astype(float) * 16 / 255).round().astype(int).ravel().tolist(), int(label))
        for part in parts
        for picture, label in zip(part.pictures, part.labels, strict=True)
    ]
    assert sorted(found) == [(image, int(target)) for image, target in expected]


def test_scenes_are_those_that_the_sentences_tell():
    corpus = read("scenes", split="valid", limit=20)
    for sentence, picture in zip(scenes.generate("valid", 20), corpus.pictures, strict=True):
        assert (np.moveaxis(picture, 0, -1) == scenes.render(sentence.text)).all()


def test_copies_of_a_picture_stay_on_one_side(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (100, 3, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=np.concatenate([x, x]))
    splits = read_splits(str(tmp_path / "x.npz"), valid_fraction=0.2)
    assert splits.repeated == {"valid": 0}
    assert len(splits.valid) == 40
    assert len(splits.train) == 160
    again = read_splits(str(tmp_path / "x.npz"), valid_fraction=0.2)
    assert again.valid.fingerprint == splits.valid.fingerprint
    other = read_splits(str(tmp_path / "x.npz"), valid_fraction=0.2, seed=1)
    assert other.valid.fingerprint != splits.valid.fingerprint


def test_a_sheet_holds_the_pictures(tmp_path):
    x = read("digits").pictures
    write_grid([x[:3], x[3:5]], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    scale = 8
    assert sheet.shape == ((2 + 2 * 10) * scale, (2 + 3 * 10) * scale)
    for place, picture in enumerate(x[:5]):
        row, column = divmod(place, 3)
        top, left = (2 + row * 10) * scale, (2 + column * 10) * scale
        shown = sheet[top : top + 64 : scale, left : left + 64 : scale]
        assert (shown == picture[0]).all()


def test_the_example_of_the_package():
    assert pictures.read("digits", split="train").pictures.shape == (1397, 1, 8, 8)


def test_what_names_a_picture_of_a_corpus_that_is_there(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 6, 8), np.uint8))
    there = str(tmp_path / "x.npz")
    for word in ("digits#5", "scenes/test#0", f"{there}#1", f"{there}/train#1", f"{tmp_path}#0"):
        assert names_one(word), word
    for word in ("5", "#5", "room #3", "digits", "digits#one", f"{there}x#1", "nowhere/test#1"):
        assert not names_one(word), word


LINES = np.eye(8, dtype=np.uint8)[None] + np.zeros((4, 1, 1), np.uint8)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16, np.bool_, np.float32])
def test_zero_and_one_are_black_and_white_in_every_type(tmp_path, kind):
    np.savez(tmp_path / "x.npz", train_x=LINES.astype(kind), test_x=0 * LINES.astype(kind))
    found = read_splits(str(tmp_path / "x.npz"), valid_fraction=0.3)
    assert (found.train.pictures[:, 0] == LINES[0] * 255).all()
    assert ("0 and 1 are black and white" in found.report()) == (
        kind not in (np.bool_, np.float32)
    )


def test_zero_and_one_in_files_are_black_and_white(tmp_path):
    folder_of(tmp_path / "x", **{f"m{n}": LINES[0] for n in range(3)})
    found = read(str(tmp_path / "x"))
    assert (found.pictures[:, 0] == LINES[0] * 255).all()
    assert found.warnings[0].endswith("0 and 1 are black and white")
    folder_of(tmp_path / "x", grey=np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    assert read(str(tmp_path / "x")).pictures[1].max() == 1  # not where others have more levels


@pytest.mark.parametrize(("high", "warned"), [(16, True), (100, True), (128, False), (0, False)])
def test_levels_far_below_white_are_warned_of(tmp_path, high, warned):
    folder_of(tmp_path / "x", a=LINES[0] * np.uint8(high))
    np.savez(tmp_path / "x.npz", images=LINES * np.uint8(high))
    line = f"no level is above {high} of 255"
    for data in ("x", "x.npz"):
        assert any(line in one for one in read(str(tmp_path / data)).warnings) == warned


def test_arrays_of_other_names_are_found_or_named(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 5, 4), np.uint8)
    labels = np.array([b"cat", b"dog", b"cat"] * 3)[:, None]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=labels, Val_images=x[:3], extra=x)
    found = read_splits(str(tmp_path / "a.npz"))
    assert found.train.labels == ["cat", "dog", "cat"] * 3
    assert len(found.valid) == 3
    assert "not read: extra" in found.train.notes
    np.savez(tmp_path / "a.npz", val_x=x, valid_x=x)
    with pytest.raises(IsthmusError, match="val_x and valid_x are both valid: keep one"):
        read(str(tmp_path / "a.npz"))


def test_a_missing_label_of_an_array_is_missing(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 5, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=x, label=np.array([1.0, np.nan, 0.0, 1.0]))
    with pytest.raises(IsthmusError, match=r"1 of 4 pictures have no label, the first is .*#1"):
        read_splits(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", images=x, label=np.array([1.0, 0.0, 0.0, 1.0]))
    assert read(str(tmp_path / "a.npz")).labels == ["1", "0", "0", "1"]


@pytest.mark.parametrize(("valid", "test"), [("val", "testing"), ("Validation", "TEST")])
def test_folders_of_splits_have_their_common_names(tmp_path, valid, test):
    a, b, c = (GREY + np.uint8(i) for i in range(3))
    names = {"training__x__1": a, f"{valid}__x__1": b, f"{test}__y__1": c, "more__x__1": a}
    folder_of(tmp_path, **names)
    for value, split in enumerate(("train", "valid", "test")):
        found = read(str(tmp_path), split=split)
        assert found.pictures[0, 0, 0, 0] == value
        assert found.warnings[-1].endswith("more/")
    folder_of(tmp_path, dev__x__1=a)
    with pytest.raises(IsthmusError, match="has several valid folders"):
        read(str(tmp_path))


def test_pages_and_frames_after_the_first_are_said(tmp_path):
    pages = [Image.fromarray(GREY + np.uint8(n)) for n in range(3)]
    for name in ("a.tif", "a.gif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        [line] = read(str(tmp_path / name)).warnings
        assert line.endswith("the first of 3 pages or frames")
    pages[0].save(tmp_path / "one.tif")
    assert read(str(tmp_path / "one.tif")).warnings == []


def test_pictures_of_as_many_sizes_say_why_one_is_left(tmp_path):
    sizes = {f"a{n}": np.zeros((6 + n, 8), np.uint8) for n in range(12)}
    with pytest.raises(
        IsthmusError, match=r"one picture only.*skipped 11 of another size.*resize"
    ):
        read_splits(str(folder_of(tmp_path, **sizes)))
