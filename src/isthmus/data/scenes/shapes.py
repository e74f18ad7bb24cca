"""The figures of `scenes`: lists of flat shapes, each painted over the ones before.

Coordinates run from −1 to 1, x to the right and y down. The tone "body" is the scene's colour.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[str, str, tuple[float, ...]]
"""(tone, "ellipse" | "polygon", numbers): an ellipse is x, y, width/2, height/2; a polygon is
x, y, x, y, …"""


def inside(kind: str, numbers: tuple[float, ...], x: Array, y: Array) -> NDArray[np.bool_]:
    """Which of the points lie in a shape."""
    if kind == "ellipse":
        cx, cy, rx, ry = numbers
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    within = np.zeros(np.broadcast(x, y).shape, dtype=bool)
    # Even-odd rule: from inside, a ray to the left crosses the outline an odd number of times.
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            crosses = (ay > y) != (by > y)
            within ^= crosses & (x > ax + (y - ay) * (bx - ax) / (by - ay))
    return within


def _ellipse(tone: str, x: float, y: float, rx: float, ry: float) -> Shape:
    return tone, "ellipse", (x, y, rx, ry)


def _polygon(tone: str, *numbers: float) -> Shape:
    return tone, "polygon", numbers


def _box(tone: str, left: float, top: float, right: float, bottom: float) -> Shape:
    return _polygon(tone, left, top, right, top, right, bottom, left, bottom)


def _pair(tone: str, x: float, y: float, rx: float, ry: float) -> tuple[Shape, Shape]:
    return _ellipse(tone, -x, y, rx, ry), _ellipse(tone, x, y, rx, ry)


def _eyes(x: float, y: float, radius: float = 0.13) -> tuple[Shape, Shape]:
    return _pair("dark", x, y, radius, radius * 1.2)


ANIMALS: dict[str, tuple[Shape, ...]] = {
    "cat": (
        _polygon("body", -0.85, -0.95, -0.15, -0.45, -0.8, 0.1),
        _polygon("body", 0.85, -0.95, 0.15, -0.45, 0.8, 0.1),
        _ellipse("body", 0, 0.22, 0.85, 0.68),
        *_eyes(0.35, 0.1),
        _polygon("pink", -0.15, 0.36, 0.15, 0.36, 0, 0.52),
    ),
    "dog": (
        _ellipse("body", 0, 0.0, 0.66, 0.8),
        _ellipse("light", 0, 0.4, 0.42, 0.42),
        *_pair("shade", 0.72, 0.05, 0.26, 0.62),
        *_eyes(0.28, -0.2),
        _ellipse("dark", 0, 0.24, 0.19, 0.14),
    ),
    "rabbit": (
        *_pair("body", 0.35, -0.5, 0.2, 0.48),
        *_pair("pink", 0.35, -0.5, 0.09, 0.34),
        _ellipse("body", 0, 0.38, 0.64, 0.58),
        *_eyes(0.27, 0.26),
        _ellipse("pink", 0, 0.52, 0.12, 0.09),
    ),
    "bear": (
        *_pair("body", 0.62, -0.55, 0.34, 0.34),
        *_pair("shade", 0.62, -0.55, 0.16, 0.16),
        _ellipse("body", 0, 0.12, 0.86, 0.78),
        _ellipse("light", 0, 0.42, 0.38, 0.32),
        *_eyes(0.34, -0.08),
        _ellipse("dark", 0, 0.3, 0.16, 0.12),
    ),
    "mouse": (
        *_pair("body", 0.58, -0.42, 0.42, 0.46),
        *_pair("pink", 0.58, -0.42, 0.24, 0.27),
        _polygon("body", -0.55, 0.0, 0.55, 0.0, 0.3, 0.6, 0.0, 0.95, -0.3, 0.6),
        *_eyes(0.2, 0.22, 0.1),
        _ellipse("dark", 0, 0.82, 0.14, 0.13),
    ),
    "frog": (
        *_pair("body", 0.5, -0.45, 0.32, 0.34),
        _ellipse("body", 0, 0.22, 0.98, 0.6),
        *_pair("white", 0.5, -0.47, 0.2, 0.22),
        *_pair("dark", 0.5, -0.47, 0.1, 0.12),
        _polygon("dark", -0.62, 0.28, 0, 0.44, 0.62, 0.28, 0, 0.58),
    ),
    "pig": (
        _polygon("shade", -0.85, -0.8, -0.2, -0.55, -0.75, -0.05),
        _polygon("shade", 0.85, -0.8, 0.2, -0.55, 0.75, -0.05),
        _ellipse("body", 0, 0.1, 0.85, 0.8),
        *_eyes(0.38, -0.15, 0.11),
        _ellipse("pink", 0, 0.32, 0.42, 0.32),
        *_pair("dark", 0.16, 0.32, 0.08, 0.13),
    ),
    "bird": (
        _polygon("shade", 0.4, 0.1, 0.98, -0.35, 0.98, 0.35),
        _ellipse("body", 0.08, 0.25, 0.66, 0.5),
        _ellipse("body", -0.36, -0.32, 0.42, 0.42),
        _polygon("beak", -0.98, -0.25, -0.66, -0.5, -0.62, -0.08),
        _ellipse("light", 0.2, 0.2, 0.34, 0.22),
        _ellipse("dark", -0.4, -0.4, 0.11, 0.13),
        _box("beak", -0.05, 0.72, 0.06, 0.98),
        _box("beak", 0.25, 0.72, 0.36, 0.98),
    ),
}

LANDMARKS: dict[str, tuple[Shape, ...]] = {
    "house": (
        _box("light", -0.7, -0.1, 0.7, 0.92),
        _polygon("body", -0.98, 0.0, 0, -0.92, 0.98, 0.0),
        _box("wood", -0.2, 0.35, 0.2, 0.92),
        _box("glass", 0.36, 0.2, 0.58, 0.5),
        _box("glass", -0.58, 0.2, -0.36, 0.5),
    ),
    "tree": (
        _box("wood", -0.17, 0.2, 0.17, 0.96),
        *_pair("body", 0.42, 0.0, 0.5, 0.44),
        _ellipse("body", 0, -0.4, 0.58, 0.54),
        _ellipse("light", -0.2, -0.5, 0.2, 0.18),
    ),
    "tent": (
        _polygon("body", 0, -0.8, 0.98, 0.85, -0.98, 0.85),
        _polygon("light", 0, -0.8, 0.6, 0.85, 0.3, 0.85),
        _polygon("dark", 0, -0.1, 0.3, 0.85, -0.3, 0.85),
    ),
    "boat": (
        _box("wood", -0.08, -0.9, 0.06, 0.4),
        _polygon("body", 0.1, -0.9, 0.85, 0.2, 0.1, 0.2),
        _polygon("light", -0.12, -0.7, -0.12, 0.2, -0.7, 0.2),
        _polygon("wood", -0.95, 0.35, 0.95, 0.35, 0.6, 0.9, -0.6, 0.9),
    ),
    "car": (
        _polygon("body", -0.6, 0.0, -0.35, -0.55, 0.35, -0.55, 0.65, 0.0),
        _polygon("glass", -0.42, -0.02, -0.26, -0.4, -0.05, -0.4, -0.05, -0.02),
        _polygon("glass", 0.08, -0.02, 0.08, -0.4, 0.28, -0.4, 0.45, -0.02),
        _box("body", -0.97, -0.02, 0.97, 0.5),
        *_pair("dark", 0.52, 0.5, 0.27, 0.27),
        *_pair("white", 0.52, 0.5, 0.11, 0.11),
    ),
    "tower": (
        _box("body", -0.5, -0.5, 0.5, 0.95),
        _polygon(
            "body",
            *(-0.72, -0.4, -0.72, -0.95, -0.42, -0.95, -0.42, -0.72, -0.15, -0.72, -0.15, -0.95),
            *(0.15, -0.95, 0.15, -0.72, 0.42, -0.72, 0.42, -0.95, 0.72, -0.95, 0.72, -0.4),
        ),
        _box("dark", -0.12, -0.25, 0.12, 0.1),
        _box("wood", -0.22, 0.45, 0.22, 0.95),
        _box("light", 0.3, -0.4, 0.5, 0.95),
    ),
    "umbrella": (
        _box("wood", -0.07, -0.9, 0.07, 0.8),
        _polygon("wood", -0.07, 0.7, 0.4, 0.7, 0.4, 0.5, 0.52, 0.5, 0.52, 0.88, -0.07, 0.88),
        _polygon(
            "body",
            *(-0.98, 0.05, -0.85, -0.4, -0.5, -0.7, 0, -0.82, 0.5, -0.7, 0.85, -0.4, 0.98, 0.05),
            *(0.66, -0.12, 0.33, 0.05, 0, -0.12, -0.33, 0.05, -0.66, -0.12),
        ),
        _polygon("light", 0, -0.82, 0.33, 0.05, 0, -0.12, -0.33, 0.05),
    ),
    "mushroom": (
        _polygon("cream", -0.26, 0.0, 0.26, 0.0, 0.36, 0.92, -0.36, 0.92),
        _polygon(
            "body",
            *(-0.95, 0.12, -0.85, -0.35, -0.5, -0.72, 0, -0.86, 0.5, -0.72, 0.85, -0.35),
            *(0.95, 0.12),
        ),
        _ellipse("white", -0.42, -0.2, 0.17, 0.16),
        _ellipse("white", 0.1, -0.52, 0.16, 0.14),
        _ellipse("white", 0.48, -0.1, 0.15, 0.14),
    ),
}
