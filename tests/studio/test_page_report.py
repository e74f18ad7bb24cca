"""The report of a run: one file that asks nobody for anything, with every text escaped."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from isthmus.data.captioned import Example
from isthmus.evaluation.page import changed_words, grid
from isthmus.studio.excerpts import Excerpts
from isthmus.studio.page_report import page, value_with_error

EVIL = '<script>alert("1")</script> & <img src=http://x.example/y>'


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.handlers, self.styles, self.text = set(), [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.styles += [value for name, value in attrs if name == "style"]

    def handle_data(self, data):
        self.text += data


RECORD = {
    "metrics": {
        **{"sentences": 100, "latent_size": 2, "prior": "standard", "nll_iw": 20.0, "kl": 0.02},
        **{
            "reconstruction": 20.0,
            "swap_gap": 0.0,
            "swap_gap_se": 0.01,
            "kl_per_dimension": [0.02],
        },
        **{"aggregate_standard_deviation": [1.0, 1.0], "exact_match": 0.5},
    },
    "settings": {"model": {"latent_size": 2, EVIL: EVIL}},
    "data": {"source": EVIL, "sentences": 300, "fingerprint": "abc123"},
    "versions": {"isthmus": "9.9"},
}
SHOWN = Excerpts(
    samples=[EVIL, "a sample"],
    originals=[EVIL, "a red cat sat"],
    returned=[EVIL, "a blue cat sat"],
    walk=[EVIL, "half-way", EVIL],
    walk_from="two ends",
    places=np.array([[0.0, 0.0], [1.0, 2.0]]),
    groups=[EVIL, "b"],
    groups_are="label",
    explained=(0.5, 0.25),
)


def test_the_page_stands_alone_and_nothing_in_it_can_run(tmp_path):
    run = tmp_path / '<b>run & "x"'
    run.mkdir()
    text = page(run, RECORD, SHOWN)
    read = Reader(text)
    assert not read.tags & {"script", "iframe", "object", "embed", "form", "link", "base", "b"}
    assert read.handlers == []
    assert read.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in read.links)
    assert "default-src 'none'" in text
    assert text.count("url(") == text.count('"url(#p')  # the frame that clips a chart
    assert read.styles
    assert all(re.fullmatch(r"[-\w:;.,()\s]*", style) for style in read.styles)
    assert "@import" not in text
    assert read.text.count(EVIL) >= 8  # shown as it is
    for part in ("a red cat sat", "half-way", "a sample", "abc123", '<b>run & "x"'):
        assert part in read.text


def test_two_levels_show_both_ends_and_the_dimensions_of_the_summary(tmp_path):
    of_summary = {
        **{"latent_size": 2, "nll_iw": 30.0, "kl": 6.0, "reconstruction": 25.0, "ppl_word": 9.5},
        **{"swap_gap": 7.0, "kl_per_dimension": [2.0, 4.0]},
        "aggregate_standard_deviation": [1.0, 1.1],
    }
    whole = {
        **{"latent_size": 6, "nll_iw": 400.0, "kl": 380.0, "swap_gap": 90.0, "ppl_word": 1e30},
        **{"kl_per_dimension": [60.0] * 6, "aggregate_standard_deviation": [1.0] * 6},
    }
    metrics = RECORD["metrics"] | whole
    metrics |= {f"summary_{name}": value for name, value in of_summary.items()}
    text = page(tmp_path, RECORD | {"metrics": metrics}, SHOWN)
    assert '<code>ppl_word</code></td><td data-name="value">1.000e+30<' in text
    read = re.sub(r"(?s)<details>.*?</details>", "", text)
    ends = "All latents: what goes in comes back", "The summary alone: likelihood"
    _, first, second = re.split("|".join(f"<h3>{end}</h3>" for end in ends), read)
    assert "z costs 380.0 nats" in first
    assert "perplexity" not in first
    assert "400.000" not in read
    assert "z costs 6.0 nats" in second
    assert "9.5 equally likely words" in second
    assert second.count("<title>dimension ") == 2 + 2  # KL and spread of each


def test_the_page_says_what_the_numbers_say(tmp_path):
    read = Reader(page(tmp_path, RECORD, SHOWN))
    assert "▲ warning KL 0.02 nats: z is not used, the posterior has collapsed" in read.text
    assert "1 of 2 are reconstructed word for word" in read.text
    unmeasured = Reader(page(tmp_path, {"metrics": {}}, Excerpts(["x"], skipped=["why <not>"])))
    assert "This run was not measured" in unmeasured.text
    assert "why <not>." in unmeasured.text
    assert "Map" not in unmeasured.text


def test_curves_are_drawn_from_the_log(tmp_path):
    assert "Training" not in Reader(page(tmp_path, RECORD, SHOWN)).text
    line = '{"step": %d, "reconstruction": 9.0, "kl": %s, "active_units": 2, "beta": 1}\n'
    (tmp_path / "log.jsonl").write_text(line % (1, 1.0) + line % (2, 5.0), encoding="utf-8")
    text = page(tmp_path, RECORD, SHOWN)
    assert "Training" in Reader(text).text
    start, end = text.index("<svg"), text.index("</svg>") + len("</svg>")
    words = {part.text for part in ElementTree.fromstring(text[start:end]).iter("text")}
    assert {"reconstruction", "KL", "step"} <= words
    assert text.count("<svg") == 4  # terms, signs of life, spreads, and the map


def test_pictures_are_inside_the_page(tmp_path):
    some = [np.full((1, 8, 8), 40 * place, dtype=np.uint8) for place in range(3)]
    shown = Excerpts(some, some[:2], some[1:], some, "two", None)
    read = Reader(page(tmp_path, {"metrics": {}}, shown))
    sheets = [link for link in read.links if link.startswith("data:")]
    assert len(sheets) == 3
    sheet = Image.open(BytesIO(b64decode(sheets[0].partition(",")[2])))
    levels = set(np.unique(np.asarray(sheet)).tolist())
    assert levels == {0, 40, 80, 128}  # both rows, and the paper between them


def test_a_grid_keeps_every_pixel():
    picture = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    data = grid([[picture]], '"name"').partition("base64,")[2].partition('"')[0]
    sheet = np.asarray(Image.open(BytesIO(b64decode(data))))
    assert np.array_equal(sheet[16:-16:8, 16:-16:8], picture[0])


@pytest.mark.parametrize(
    ("before", "after", "marked"),
    [
        ("a red cat", "a red cat", "a red cat"),
        ("a red cat", "a blue cat", "a <mark>blue</mark> cat"),
        ("a red cat", "a cat", "a <mark>…</mark> cat"),
        ("a cat", "a <b> cat", "a <mark>&lt;b&gt;</mark> cat"),
    ],
)
def test_changed_words_are_marked(before, after, marked):
    assert changed_words(before, after) == marked


def test_values_have_their_errors():
    assert value_with_error(16.1234, 0.0567) == "16.123 ± 0.057"
    assert value_with_error(32.0, 0.0) == "32 ± 0"
    assert value_with_error(12.5, None) == "12.500"


def test_pictures_with_captions_have_both_parts_in_the_page(tmp_path):
    dark, light = (np.full((1, 8, 8), level, dtype=np.uint8) for level in (0, 200))
    given = [Example(dark, "a dark one"), Example(dark), Example(caption="no picture")]
    decoded = [Example(light, EVIL), Example(light, "told"), Example(light, "no picture")]
    read = Reader(page(tmp_path, {"metrics": {}}, Excerpts(decoded, given, decoded)))
    sheets = [link for link in read.links if link.startswith("data:")]
    returned = np.asarray(Image.open(BytesIO(b64decode(sheets[0].partition(",")[2]))))
    assert set(np.unique(returned).tolist()) == {0, 200, 128}
    assert (
        "1 of 2 are reconstructed word for word" in read.text
    )  # the example without a caption is none
    assert read.text.count(EVIL) == 2  # returned and sampled
