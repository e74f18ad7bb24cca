"""The page of results: every figure leads to a command, and the drawing says what is better."""

from __future__ import annotations

import re
from html import unescape

import pytest
from matplotlib.figure import Figure

from isthmus.bench.paper import Part, page, rate_and_distortion
from isthmus.cli import main


def row(name, plain, kl, reconstruction, **more):
    shared = {"what": f"<{name}>", "seeds": 1, "sentences": 20, "measured_on": "test"}
    shared |= {"iw_samples": 100, "mutual_information_limit": 3.0, "seconds": 1.0}
    figures = {"kl": kl, "reconstruction": reconstruction, "negative_elbo": kl + reconstruction}
    shared |= {"parameters": 10**6, "against_plain": None, "ppl_word": 30.0}
    return {"row": name, "plain": plain} | shared | figures | more


ROWS = [
    row("lm", "", 0.0, 100.0),
    row("vae-0.1", "lm", 5.0, 94.0),
    row("vae-1", "lm", 20.0, 85.0),
    row("ae", "lm", 80.0, 60.0),
]
COMMANDS = {each["row"]: f"isthmus bench --rows {each['row']} & more" for each in ROWS}


@pytest.fixture(scope="module")
def shown():
    return page("Results", "All.", [Part("ptb, small", ROWS, COMMANDS, "ptb")], {"More": "<p>x"})


def test_every_figure_leads_to_the_command_of_its_row(shown):
    body = shown.split("How each row was made")[0]
    for each in ROWS:
        [line] = [part for part in body.split("<tr>") if f">{each['row']}</a>" in part]
        [target] = set(re.findall(r'href="#([^"]+)"', line))
        assert line.count("<a href") == line.count("<td")
        [command] = re.findall(rf'id="{re.escape(target)}">.*?<code>(.*?)</code>', shown)
        assert unescape(command) == COMMANDS[each["row"]]


def test_texts_are_escaped_and_sections_follow(shown):
    assert "&lt;vae-1&gt;" in shown
    assert "<vae-1>" not in shown
    assert shown.index('id="ptb,-small"') < shown.index('id="more"')


def test_published_rows_are_printed_converted_or_refused(shown):
    block = shown.split("Published on")[1]
    assert "not comparable" in block
    assert "105.5" in block  # VAE-LSTM, 105.48 per word as printed


def test_a_row_lies_below_the_line_of_its_language_model_iff_its_bound_is_better():
    axis = Figure().subplots()
    rate_and_distortion(axis, ROWS)
    [line] = [each for each in axis.lines if each.get_label() == "lm"]
    (x0, x1), (y0, y1) = line.get_data()
    points = {}
    for each in axis.lines:
        if each.get_gid():
            name = each.get_gid().removeprefix("hint: ").partition(":")[0]
            points[name] = tuple(float(value[0]) for value in each.get_data())
    assert points == {"vae-0.1": (5.0, 94.0), "vae-1": (20.0, 85.0)}
    for name, better in (("vae-0.1", True), ("vae-1", False)):
        x, y = points[name]
        assert (y < y0 + (y1 - y0) * (x - x0) / (x1 - x0)) == better
    assert "ae" in axis.get_title(loc="left")  # 40 % above its language model: named, not drawn


def test_a_folder_without_results_is_one_line(tmp_path, capsys):
    assert main(["bench", "page", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 1
    assert "expected a folder of isthmus bench seeds" in capsys.readouterr().err
