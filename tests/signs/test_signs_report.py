"""The report: one page without a network, pictures that show what they should."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from planted import muddled, script, shapes

from isthmus.data.pictures.grid import picture_address
from isthmus.errors import IsthmusError
from isthmus.signs.analysis import analyse, read_codes, summary
from isthmus.signs.drawing import by_cluster, ink, positions
from isthmus.signs.page import page, write
from isthmus.signs.scores import principal


@pytest.fixture(scope="module")
def report():
    signs = muddled()
    return analyse(signs, principal(signs.pictures, 10), "PCA10", clusters=6, seeds=3)


class Page(HTMLParser):
    """Tags with their attributes, and whether all that open also close."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def parsed(text):
    found = Page()
    found.feed(text)
    return found


def test_the_page_needs_no_network(report):
    text = re.sub(r"url\(data:image/png;base64,[\w+/=]+\)", "", page(report))
    assert not re.search(r"(?i)https?:|//\w|@import|url\(", text)
    tags = parsed(text).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object"}
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert links
    ids = {attributes.get("id") for _, attributes in tags}
    assert all(link[0] == "#" and link[1:] in ids for link in links)


def test_the_page_shows_every_picture_in_its_cluster_and_on_the_map(report):
    text = page(report)
    sheet, _, rest = text.partition('id="every-cluster"')[2].partition('id="map"')
    for part in (sheet, rest):
        shown = sorted(int(number) for number in re.findall(r'<i class="p(\d+)"', part))
        assert shown == list(range(36))
    assert len(re.findall(r"^\.p\d+\{", text, re.M)) == 36
    assert text.count("<h3>") == 6


def test_hdbscan_is_compared_with_as_many_clusters_as_it_found():
    signs = muddled()
    codes = principal(signs.pictures, 10)
    found = analyse(signs, codes, "PCA10", clusters=2, method="hdbscan", seeds=2)
    assert found.clusters.max() + 1 == 6
    assert found.confidence.mean() > 0.9


def test_hostile_names_are_escaped():
    names = ["<script>alert(1)</script>", '" onload="x', "&amp;", None] * 2
    signs = script(names, [0, 1, 2, 3] * 2)
    text = page(analyse(signs, principal(signs.pictures, 3), "<b>codes</b>", 3, seeds=2))
    found = parsed(text)
    tags = {tag for tag, _ in found.tags}
    assert "script" not in tags
    assert "onload" not in {name for _, attributes in found.tags for name in attributes}
    labels = {attributes["aria-label"] for tag, attributes in found.tags if tag == "i"}
    assert labels == {*names[:3], "drawing003", "drawing007"}
    assert "<b>codes</b>" not in text
    assert "&lt;b&gt;codes" in text


def test_the_report_is_complete(report, tmp_path):
    write(report, tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    tables = {"signs.csv", "merges.csv", "splits.csv"}
    pictures = {"contact_sheet.png", "map.png"}
    assert files == {"index.html", "summary.json", *tables, *pictures}
    told = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(summary(report)))
    assert (told["merge_candidates"], told["split_candidates"]) == (1, 1)
    assert told["number_of_signs"]["low"] <= 6 <= told["number_of_signs"]["high"]
    assert [row["name"] for row in told["scores"]] == ["noise", "PCA16", "PCA64", "PCA10"]
    assert told["mean_confidence"] > 0.9
    assert (tmp_path / "signs.csv").read_text(encoding="utf-8").count("\n") == 37
    for name in pictures:
        ink = 1 - np.asarray(Image.open(tmp_path / name)) / 255
        assert 0.01 < ink.mean() < 0.9


def test_names_of_one_picture_each_cannot_be_scored():
    signs = script([f"n{k}" for k in range(12)], [0, 1, 2] * 4)
    found = analyse(signs, principal(signs.pictures, 3), "PCA3", 3, seeds=2)
    assert found.table == []
    assert "nothing can be scored" in page(found)
    assert found.splits == []
    assert {len(merge.pictures) for merge in found.merges} == {2, 3}


@pytest.mark.parametrize("count", [2, 3, 9])
def test_very_few_pictures(count, tmp_path):
    signs = script([None] * count, list(range(count)))
    write(analyse(signs, principal(signs.pictures, 4), "PCA", seeds=2), tmp_path)
    assert (tmp_path / "index.html").stat().st_size > 1000


def test_one_picture_has_no_components():
    with pytest.raises(IsthmusError, match="at least two"):
        principal(shapes(1), 4)


def test_hostile_names_of_merges_and_splits_are_escaped():
    names = ["<script>a", "<script>b"] * 6
    signs = script(names, [0, 1, 2, 3] * 3)
    found = analyse(signs, principal(signs.pictures, 4), "PCA4", 3, seeds=2)
    assert found.merges
    assert len(found.splits) == 2
    assert "<script" not in page(found)


def test_pictures_without_inscriptions():
    signs = script(["a", "a", "b", "b"], [0, 0, 1, 1], order=[])
    codes = principal(signs.pictures, 2)
    found = analyse(signs, codes, "PCA2", 2, seeds=2)
    assert found.clusters.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    assert "no tokens: nothing can be scored" in page(found)
    with pytest.raises(IsthmusError, match="no picture has tokens"):
        analyse(signs, codes, "PCA2", 2, seeds=2, by_token=True)


def test_a_picture_in_a_page_is_the_picture():
    picture = shapes(1)[0]
    encoded = picture_address(ink(picture)).removeprefix("data:image/png;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert np.array_equal(shown, np.uint8(255 * (1 - picture)))


def test_no_sign_covers_another_on_the_map_and_neighbours_stay():
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    codes = 20 * np.eye(5)[truth] + generator.normal(size=(60, 5))
    cells = positions(codes)
    assert len(np.unique(cells, axis=0)) == 60
    distance = np.linalg.norm(cells[:, None] - cells, axis=-1) + 1e9 * np.eye(60)
    assert np.mean(truth[distance.argmin(1)] == truth) > 0.9


def test_clusters_come_by_their_tokens():
    found = by_cluster(np.asarray([0, 1, 0, 2]), np.asarray([1, 5, 2, 9]))
    assert list(found.items()) == [(2, [3]), (1, [1]), (0, [2, 0])]


def test_codes_are_checked(tmp_path):
    np.savez(tmp_path / "short.npz", codes=np.zeros((3, 2)))
    with pytest.raises(IsthmusError, match=r"\(3, 2\), expected numbers \[4 P\]"):
        read_codes(tmp_path / "short.npz", 4)
    np.savez(tmp_path / "nan.npz", codes=np.full((4, 2), np.nan))
    with pytest.raises(IsthmusError, match="not all finite"):
        read_codes(tmp_path / "nan.npz", 4)
