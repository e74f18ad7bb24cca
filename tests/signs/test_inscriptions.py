"""Reading inscriptions: three forms, and faults that are reported and do not stop it."""

import numpy as np
import pytest
from PIL import Image

from isthmus.errors import IsthmusError
from isthmus.signs.inscriptions import base, name_of, read


def sign(seed):
    picture = np.zeros((20, 20), dtype=np.uint8)
    picture[4:16, 4:16] = 255 * (np.random.default_rng(seed).random((12, 12)) < 0.5)
    return picture


def png(path, seed, mode="L"):
    """Black on white, as scans are."""
    Image.fromarray(255 - sign(seed)).convert(mode).save(path)


def test_npz(tmp_path):
    images = np.stack([np.zeros((20, 20)), *(sign(s) / 255 for s in range(3)), np.ones((20, 20))])
    paths = ["blank", "a/img011-001.png", "a/img011-002.png", "a/M157-A.png", "a/M2.png"]
    file = tmp_path / "signs.npz"
    np.savez(file, ids=[1, 2, 4, 3, 3, 0, 1], images=images, paths=paths)
    signs = read(str(file))
    assert signs.names == ("011", "011", "M157-A")
    assert signs.types(fold_variants=True) == ["011", "011", "M157"]
    # Token 4 is a blank picture and 0 means none: sequences end there.
    assert [row.tolist() for row in signs.order] == [[0, 1], [2, 2], [0]]
    assert signs.counts.tolist() == [2, 1, 2]
    assert signs.skipped == {"bad pictures": 1, "tokens without a picture": 2}
    assert len(signs.warnings) == 3
    assert all("\n" not in line for line in signs.warnings)
    # 20 pixels become 64: ink keeps its share of the picture.
    assert signs.pictures.mean((1, 2)) == pytest.approx(images[1:4].mean((1, 2)), rel=0.05)


def test_pickles_are_refused(tmp_path):
    file = tmp_path / "signs.npz"
    paths = np.asarray(["x", {"a": 1}], dtype=object)
    np.savez(file, ids=[1], images=np.zeros((2, 4, 4)), paths=paths, allow_pickle=True)
    with pytest.raises(IsthmusError, match=r"damaged or not an \.npz file .*pickle"):
        read(str(file))


def test_folder_with_order_and_names(tmp_path):
    for seed, name in enumerate(("x1", "x2", "y1")):
        png(tmp_path / f"{name}.png", seed, mode="RGB" if seed else "L")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    Image.new("L", (9, 9), 255).save(tmp_path / "empty.png")
    (tmp_path / "order.txt").write_text("x1 x2 broken y1\n\ny1 x9 x9\n", encoding="utf-8")
    (tmp_path / "names.tsv").write_text("x1\tX\nx2\tX\n", encoding="utf-8")
    signs = read(str(tmp_path))
    assert signs.files == ("x1", "x2", "y1")
    assert signs.names == ("X", "X", None)
    assert signs.types() is None
    assert [row.tolist() for row in signs.order] == [[0, 1], [2], [2]]
    assert signs.skipped == {"bad pictures": 2, "tokens without a picture": 3}
    assert "3 tokens without a picture" in signs.report()
    assert [line for line in signs.warnings if "x9" in line and line.endswith("2")]
    assert signs.pictures.max() == 1  # ink, though the files are black on white
    assert signs.pictures[0, 0, 0] == 0


def test_an_order_may_name_files_with_their_ending(tmp_path):
    for seed, name in enumerate(("x1.png", "x.2.png", "y1.PNG")):
        png(tmp_path / name, seed)
    (tmp_path / "order.txt").write_text("x1.png x.2.png y1.PNG x1 x.2 y1.png x9.png\n")
    (tmp_path / "names.tsv").write_text("x1.png\tX\nx.2\tX\n", encoding="utf-8")
    signs = read(str(tmp_path))
    assert signs.files == ("x.2", "x1", "y1")
    assert signs.names == ("X", "X", None)
    assert [row.tolist() for row in signs.order] == [[1, 0, 2, 1, 0, 2]]
    assert signs.skipped == {"tokens without a picture": 1}


@pytest.mark.parametrize(
    ("order", "named"), [("a b\n", 'names "a", the pictures are "x1" and 0'), ("\n", "nothing")]
)
def test_an_order_without_a_token_is_an_error(tmp_path, order, named):
    png(tmp_path / "x1.png", 0)
    (tmp_path / "order.txt").write_text(order)
    with pytest.raises(IsthmusError, match=named):
        read(str(tmp_path))


def test_transliteration(tmp_path):
    for seed, name in enumerate(("AN", "KI")):
        png(tmp_path / f"{name}.png", seed)
    (tmp_path / "transliteration.txt").write_text("AN KI\nKI ? AN\n", encoding="utf-8")
    signs = read(str(tmp_path))
    assert signs.types() == ["AN", "KI"]
    assert [row.tolist() for row in signs.order] == [[0, 1], [1], [0]]


def test_transparent_ground_is_paper(tmp_path):
    ink = np.dstack([np.zeros((20, 20, 3), dtype=np.uint8), sign(0)])
    Image.fromarray(ink).save(tmp_path / "AN.png")
    png(tmp_path / "KI.png", 0)
    (tmp_path / "transliteration.txt").write_text("AN KI", encoding="utf-8")
    signs = read(str(tmp_path))
    assert np.array_equal(signs.pictures[0], signs.pictures[1])


def test_white_on_black_is_read_like_black_on_white(tmp_path):
    png(tmp_path / "AN.png", 0)
    Image.fromarray(sign(0)).save(tmp_path / "KI.png")
    (tmp_path / "transliteration.txt").write_text("AN KI", encoding="utf-8")
    signs = read(str(tmp_path))
    assert signs.pictures[0] == pytest.approx(signs.pictures[1], abs=1e-6)


def test_nothing_to_read_is_told_in_one_line(tmp_path):
    with pytest.raises(IsthmusError, match="got neither"):
        read(str(tmp_path))
    (tmp_path / "order.txt").write_text("a b", encoding="utf-8")
    with pytest.raises(IsthmusError, match="no usable pictures"):
        read(str(tmp_path))
    with pytest.raises(IsthmusError, match=r"expected an \.npz"):
        read(str(tmp_path / "absent"))
    np.savez(tmp_path / "bad.npz", ids=[1], images=np.zeros((2, 4)), paths=["", "a"])
    with pytest.raises(IsthmusError, match=r"images \(2, 4\)"):
        read(str(tmp_path / "bad.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(IsthmusError, match=r"not an \.npz file"):
        read(str(tmp_path / "text.npz"))


def test_names():
    assert name_of("glyphs/x/img037-028.png") == "037"
    assert name_of("glyphs/pe/64/M305+M111-C.png") == "M305+M111-C"
    assert base("M157-A") == base("M157") == "M157"
    assert base("M157-A+M131-AB") == "M157-A+M131"


def test_the_prepared_data(shared_data):
    signs = read(str(shared_data / "signs" / "proto_elamite.npz"))
    assert (len(signs.pictures), len(signs.tokens)) == (1318, 14683)
    assert len(set(signs.types(fold_variants=True))) == 496
    assert not signs.warnings
