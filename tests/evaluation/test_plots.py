"""Pictures show what they are given, and say so in their axes."""

import json

import numpy as np
from matplotlib.image import imread

from isthmus.evaluation.plots import cluster_map, latent_map, training_curves


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
