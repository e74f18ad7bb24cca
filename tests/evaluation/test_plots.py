"""Pictures show what they are given, and say so in their axes."""

import json
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from isthmus.evaluation.plots import (
    BAND,
    COLOURS,
    LIFE,
    TERMS,
    bare_map,
    bars,
    charted,
    cluster_map,
    inline,
    latent_map,
    lines,
    spreads,
    training_curves,
)


def write_log(path, kl):
    records = [
        {
            "step": step,
            "reconstruction": 40.0 / step,
            "kl": kl,
            "beta": 0.5,
            "active_units": 3.0,
            "mutual_information": 1.0,
            "kl_per_dimension": [kl / 2, kl / 2],
        }
        for step in (1, 2, 3, 4)
    ]
    bound = {"eval_elbo": -9.0, "eval_reconstruction": 6.0, "eval_kl": 3.0}
    records.append({"step": 4, **bound, "eval_active_units": 2.0, "eval_mutual_information": 0.9})
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


def test_curves_follow_the_log(tmp_path):
    pictures = []
    for kl in (1.0, 9.0):
        write_log(tmp_path / "log.jsonl", kl)
        training_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
        pictures.append(imread(tmp_path / "curves.png"))
    assert not np.array_equal(*pictures)
    write_log(tmp_path / "log.jsonl", 1.0)
    training_curves(tmp_path / "log.jsonl", tmp_path / "again.png")
    assert np.array_equal(imread(tmp_path / "again.png"), pictures[0])


def test_a_log_without_a_training_line_draws_nothing(tmp_path):
    (tmp_path / "log.jsonl").write_text("", encoding="utf-8")
    training_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_map_says_how_far_labels_are_apart(tmp_path):
    points = np.random.default_rng(0).normal(size=(600, 5))
    labels = [f"g{index % 3}" for index in range(600)]
    chance = latent_map(points, labels, "map", tmp_path / "chance.png")
    apart = points + 8 * np.eye(5)[[index % 3 for index in range(600)]]
    separate = latent_map(apart, labels, "map", tmp_path / "apart.png")
    assert abs(chance - 1 / 3) < 0.1
    assert separate == 1.0
    pictures = [imread(tmp_path / name) for name in ("chance.png", "apart.png")]
    assert pictures[0].shape != pictures[1].shape or not np.array_equal(*pictures)


def test_a_map_of_clusters_shows_them_and_labels_do_not_move_it(tmp_path):
    generator = np.random.default_rng(0)
    points = generator.normal(size=(90, 4))
    clusters = [index % 3 for index in range(90)]
    labels = ["abc"[index % 3] for index in range(90)]
    other = generator.permutation(labels).tolist()
    drawn = {
        "plain": (points, clusters, labels),
        "labels": (points, clusters, other),
        "clusters": (points, generator.permutation(clusters).tolist(), labels),
    }
    for name, arguments in drawn.items():
        cluster_map(*arguments, tmp_path / f"{name}.png")
    plain, permuted, regrouped = (imread(tmp_path / f"{name}.png") for name in drawn)
    half = plain.shape[1] // 2  # clusters on the left, classes on the right
    assert np.array_equal(plain[:, :half], permuted[:, :half])
    assert not np.array_equal(plain[:, half:], permuted[:, half:])
    assert not np.array_equal(plain[:, :half], regrouped[:, :half])


def test_one_dimension_and_two_clusters_can_be_drawn(tmp_path):
    points = np.arange(6.0)[:, None]
    cluster_map(points, [0, 0, 0, 1, 1, 1], None, tmp_path / "narrow.png")
    cluster_map(points[::-1], [0, 0, 0, 1, 1, 1], None, tmp_path / "mirrored.png")
    assert not np.array_equal(*(imread(tmp_path / f"{n}.png") for n in ("narrow", "mirrored")))


def on_axes(draw, *arguments):
    axis = Figure().subplots()
    draw(axis, *arguments)
    return axis


def as_svg(draw, *arguments, groups=()):
    """The chart in a page, parsed, and its markup."""
    text = inline("a <chart>", lambda axis: draw(axis, *arguments), groups)
    return ElementTree.fromstring(text), text


def test_a_line_goes_where_its_numbers_go_and_dots_are_validation():
    records = [
        {"step": 20, "reconstruction": 30.0, "kl": None},
        {"step": 100, "reconstruction": 20.0, "kl": 3.0},
        {"step": 100, "eval_reconstruction": 25.0},
    ]
    axis = on_axes(lines, records, TERMS)
    drawn = [line.get_xydata().tolist() for line in axis.lines]
    assert drawn == [[[20, 30], [100, 20]], [[100, 25]], [[100, 3]], []]
    assert [line.get_linestyle() for line in axis.lines] == ["-", "None"] * 2
    assert [text.get_text() for text in axis.get_legend().texts] == ["reconstruction", "KL"]


def test_two_levels_have_a_chart_of_the_summary_alone():
    records = [{"step": 5, "eval_elbo": -9.0, "eval_kl": 40.0}]
    assert list(charted(records).values()) == [TERMS, LIFE]
    records[0] |= {"eval_summary_elbo": -8.0, "eval_summary_kl": 3.0}
    whole, alone, _ = charted(records).values()
    for names, height in ((whole, 40), (alone, 3)):
        drawn = [line.get_xydata().tolist() for line in on_axes(lines, records, names).lines]
        assert [[5, height]] in drawn


def test_early_peaks_do_not_hide_the_rest():
    records = [{"step": step, "kl": 1000.0 if step == 0 else 2.0} for step in range(21)]
    low, high = on_axes(lines, records, TERMS).get_ylim()
    assert low == 0
    assert 2 < high < 2.5


def test_bars_are_as_high_as_their_values_and_say_them():
    axis = on_axes(bars, [2.0, 1.0, 0.0], ["a<", "b", "c"])
    assert [bar.get_height() for bar in axis.patches] == [2, 1, 0]
    root, text = as_svg(bars, [2.0, 1.0, 0.0], ["a<", "b", "c"])
    assert [title.text for title in root.iter("title")] == ["a<: 2 nats", "b: 1 nats", "c: 0 nats"]
    assert "a&lt;" in text


def test_a_prior_that_fits_is_filled_to_the_border_of_its_band():
    axis = on_axes(spreads, ["d"], [0.0], [1.0], [0.5], "KL")
    [band] = axis.patches
    assert (band.get_y(), band.get_height()) == (-1, 2)
    assert [line.get_ydata().tolist() for line in axis.lines] == [[-1, 1], [-0.5, 0.5]]
    without = on_axes(spreads, ["d"], [0.5], [1.0], None, "spread")
    assert [line.get_ydata().tolist() for line in without.lines] == [[-0.5, 1.5]]
    root, _ = as_svg(spreads, ["d"], [0.0], [1.0], [0.5], "KL")
    assert [title.text for title in root.iter("title")] == [
        "prior: 0 ± 1",
        "d: aggregate posterior q(z) +0.00 ± 1.00",
        "d: one posterior +0.00 ± 0.50",
    ]


def test_every_point_of_a_map_is_drawn_once_under_its_name():
    generator = np.random.default_rng(0)
    places, groups = generator.normal(size=(300, 2)), [f"g{i % 10}" for i in range(300)]
    axis = on_axes(bare_map, places, groups)
    for number, drawn in enumerate(axis.collections):
        assert np.array_equal(drawn.get_offsets(), places[number::10])
    looks = {(str(c.get_facecolor()), str(c.get_paths()[0].vertices)) for c in axis.collections}
    assert len(looks) == 10
    root, _ = as_svg(bare_map, places, groups, groups=groups)
    assert sum(1 for _ in root.iter("use")) == 300
    keys = [(span.find("i").text, span.find("i").tail.strip()) for span in root.iter("span")]
    assert keys == [("●" if n < 8 else "▲", f"g{n}") for n in range(10)]
    as_svg(bare_map, np.zeros((2, 2)), ["a", "a"])  # all in one place


def test_names_are_no_formulas_and_no_markup():
    names = ["$\\bad$", "<b>"]
    root, text = as_svg(bare_map, np.eye(2), names, groups=names)
    assert [span.find("i").tail.strip() for span in root.iter("span")] == ["<b>", "$\\bad$"]
    assert "<b>" not in text
    assert root.find("svg").get("aria-label") == root.find("figcaption").text == "a <chart>"


def test_a_chart_in_a_page_has_the_colours_of_the_page_and_no_ids_of_its_own():
    _, text = as_svg(spreads, ["d"], [0.0], [1.0], [0.5], "KL")
    assert not any(colour in text for colour in (*COLOURS, BAND))
    assert "var(--c0)" in text
    assert "var(--band)" in text
    assert text == as_svg(spreads, ["d"], [0.0], [1.0], [0.5], "KL")[1]
    assert "figure_1" not in text
    assert "<style" not in text
    assert "http" not in text


def test_the_style_of_pages_asks_no_host():
    style = (files("isthmus.evaluation") / "page.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style
    for scheme in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert scheme in style
    defined = {f"--c{place}" for place in range(len(COLOURS))} | {"--soft", "--line", "--band"}
    assert all(f"{name}:" in style for name in defined)
