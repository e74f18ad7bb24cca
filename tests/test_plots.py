"""Pictures show what they are given, and say so in their axes."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from isthmus.plots import latent_map, training_curves


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


@pytest.mark.parametrize("groups", [2, 12])
def test_a_map_tells_groups_apart_by_colour(tmp_path, groups):
    points = np.random.default_rng(0).normal(size=(60, 5))
    labels = [f"g{index % groups}" for index in range(60)]
    latent_map(points, labels, "map", tmp_path / "map.png")
    latent_map(points, ["one"] * 60, "map", tmp_path / "plain.png")

    def colours(name):
        picture = imread(tmp_path / name)[..., :3]
        grey = np.ptp(picture, axis=-1) < 0.2
        return len(np.unique(picture[~grey].round(1), axis=0))

    assert colours("map.png") > colours("plain.png")
