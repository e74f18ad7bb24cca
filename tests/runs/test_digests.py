"""Digests find every change of a file, of the list of files, and nothing else."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from isthmus.runs.digests import MANIFEST, damaged, digest, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "part" / "words").write_text("a b c")
    (tmp_path / "other").write_text("not listed")
    write_manifest(tmp_path, ["weights", "part/words"])
    return tmp_path


def test_a_folder_as_it_was_written_is_whole(folder):
    digests = read_manifest(folder)
    # printf 'a b c' | sha256sum
    expected = "0e9f64031fcb2bc708b531c2a20441580425d151a38503f38592a7dd36019d3b"
    assert digests["part/words"] == expected
    assert damaged(folder, digests) == {}
    (folder / "other").write_text("changed")
    assert damaged(folder, digests) == {}


def test_flipped_bits_and_missing_files_are_found(folder):
    digests = read_manifest(folder)
    content = (folder / "weights").read_bytes()
    for place in range(0, 8 * len(content), 997):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (folder / "weights").write_bytes(flipped)
        assert damaged(folder, digests) == {"weights": "changed"}
    (folder / "part" / "words").unlink()
    assert damaged(folder, digests) == {"weights": "changed", "part/words": "missing"}


def test_flipped_bits_of_the_manifest_are_found(folder):
    content = (folder / MANIFEST).read_bytes()
    digests = read_manifest(folder)
    for place in range(0, 8 * len(content), 37):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (folder / MANIFEST).write_bytes(flipped)
        assert read_manifest(folder) in (None, digests)  # white space does not count
    for damage in (b"", b"[]", b"null", b'{"digests": 3}', content[:-9], b"[" * 100_000):
        (folder / MANIFEST).write_bytes(damage)
        assert read_manifest(folder) is None
    (folder / MANIFEST).unlink()
    assert read_manifest(folder) is None


def test_the_order_of_keys_does_not_count(folder):
    before = read_manifest(folder)
    record = json.loads((folder / MANIFEST).read_text())
    turned = dict(reversed(record["digests"].items()))
    (folder / MANIFEST).write_text(json.dumps({"digests": turned}))
    assert read_manifest(folder) == before


def test_large_files_are_read_in_pieces(tmp_path):
    content = bytes(range(251)) * 40_000
    (tmp_path / "large").write_bytes(content)
    assert digest(tmp_path / "large") == sha256(content).hexdigest()
    (tmp_path / "large").write_bytes(b"")
    assert digest(tmp_path / "large") == sha256(b"").hexdigest()
