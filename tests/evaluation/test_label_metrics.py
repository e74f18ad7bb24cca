"""Use of y and what z tells of it: planted cases whose values are known."""

import math

import pytest
import torch

from isthmus.evaluation.labels import accuracy, label_information, label_metrics, leakage

LABELS = ["x"] * 60 + ["y"] * 40


def test_a_label_written_into_z_leaks_whole():
    z = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    z[:, 2] += torch.tensor([20.0 if label == "x" else -20.0 for label in LABELS])
    assert leakage(z, LABELS).value == pytest.approx(0.4)  # all right instead of 60 of 100


def test_noise_leaks_nothing():
    z = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    found = leakage(z, LABELS * 20)
    assert abs(found.value) < 4.5 * max(found.standard_error, 1e-3)
    assert found.count == 2000


def test_half_a_label_leaks_half():
    """Every second text has its label in z, the others nothing: there the majority is as good."""
    z = 0.01 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    labels = ["x", "y"] * 1000
    for place in range(0, 2000, 4):
        z[place], z[place + 1] = 30, -30
    found = leakage(z, labels)
    assert found.value == pytest.approx(0.25, abs=4.5 * found.standard_error)


def test_no_probe_without_two_of_each():
    z = torch.randn(6, 2)
    assert leakage(z, ["x"] * 6) is None
    assert leakage(z, ["x"] * 5 + ["y"]) is None
    assert leakage(z, ["x"] * 4 + ["y"] * 2) is not None


def test_information_of_the_label():
    blind = torch.tensor([[0.9, 0.1]]).log().expand(10, 2)
    assert label_information(blind).value == pytest.approx(0)
    sure = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]).repeat(5, 1)
    assert label_information(sure).value == pytest.approx(math.log(2))
    half = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert label_information(half).value == pytest.approx(math.log(2) - entropy)


def test_all_of_it():
    log_q = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]).log()
    labels = ["a", "b", "b", "a"]
    assert accuracy(log_q, "ab", labels).value == 0.75
    found = label_metrics(log_q, torch.randn(4, 2), "ab", labels, clusters=False)
    assert found["label_accuracy"] == 0.75
    assert found["labels_used"] == 2
    assert {"label_leakage", "label_leakage_se", "label_information_se"} <= set(found)
    # Names of clusters are numbers: only the grouping counts.
    numbers = label_metrics(log_q, torch.randn(4, 2), "01", labels, clusters=True)
    assert numbers["label_agreement"]["accuracy"] == 0.75
    assert "label_accuracy" not in numbers
    assert set(label_metrics(log_q, torch.randn(4, 2), "ab", None, clusters=False)) == {
        "labels_used",
        "label_information",
        "label_information_se",
    }
