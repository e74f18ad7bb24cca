"""PSNR, normalised inversion error and sharpness against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from isthmus.evaluation.measures import squared_error
from isthmus.evaluation.picture_quality import (
    inversion_error,
    peak_signal_to_noise,
    sharpness,
    sharpness_ratio,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_psnr_of_a_known_error():
    """Of 8-bit levels an error of one level everywhere is 20 log₁₀ 255 = 48.13 dB."""
    given = noise(5, 1, 4, 4)
    found = peak_signal_to_noise(given, given + 2 / 255)
    assert found.value == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert found.standard_error == pytest.approx(0, abs=1e-4)
    half = peak_signal_to_noise(given, given + 1 / 255)
    assert half.value - found.value == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert peak_signal_to_noise(given, given).value == math.inf


def test_black_for_white_has_a_squared_error_of_one():
    black, white = (np.full((1, 2, 2), level, dtype=np.uint8) for level in (0, 255))
    assert squared_error([black, white], [white, white]).value == 0.5
    assert squared_error([black], [black + 51]).value == pytest.approx(0.2**2)


def test_psnr_has_the_error_that_it_varies_by():
    generator = torch.Generator().manual_seed(0)
    scale = 0.1 + torch.rand(400, 50, 1, generator=generator)
    errors = scale * torch.randn(400, 50, 16, generator=generator)
    found = [peak_signal_to_noise(torch.zeros(50, 16), error) for error in errors]
    spread = torch.tensor([each.value for each in found]).std().item()
    told = sum(each.standard_error for each in found) / len(found)
    assert told == pytest.approx(spread, rel=0.1)


def test_inversion_error_by_hand():
    """Corners of a 3-4-5 triangle: mean distance 4; what was drawn is 1, 0 and 3 away."""
    given = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    drawn = given + torch.tensor([[0.0, 1.0], [0.0, 0.0], [3.0, 0.0]])
    found = inversion_error(given, drawn)
    assert found.value == pytest.approx((1 + 0 + 3) / 3 / 4)
    assert found.standard_error == pytest.approx(math.sqrt(7 / 3) / math.sqrt(3) / 4)
    assert inversion_error(given, given).value == 0
    assert inversion_error(9 * given, 9 * drawn).value == pytest.approx(found.value)


def test_another_picture_in_its_place_has_an_inversion_error_of_one():
    given = noise(200, 12)
    assert inversion_error(given, given.roll(1, 0)).value == pytest.approx(1, abs=0.02)


def test_sharpness_by_hand():
    picture = torch.tensor([[[[0.0, 1.0], [3.0, 1.0]]]])
    assert sharpness(picture).item() == (3**2 + 0**2) + (1**2 + 2**2)
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    assert sharpness(ramp).item() == 4 * 5


def test_sharpness_ratio():
    given = noise(8, 3, 12, 12)
    assert sharpness_ratio(given, given).value == 1
    assert sharpness_ratio(given, given).standard_error == 0
    assert sharpness_ratio(given, 0.5 * given).value == pytest.approx(0.25)
    assert sharpness_ratio(given, 0.5 * given + 0.2).value == pytest.approx(0.25)
    blurred = functional.avg_pool2d(given, 3, stride=1, padding=1)
    assert sharpness_ratio(given, blurred).value < 0.3
    assert sharpness_ratio(given, given + 0.5 * noise(8, 3, 12, 12).flip(0)).value > 1
