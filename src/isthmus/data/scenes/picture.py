"""Pictures of scenes: the animals and the landmark in front of the place."""

from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from isthmus.data.scenes import corpus, shapes
from isthmus.errors import IsthmusError

Array: TypeAlias = NDArray[np.float64]

VISIBLE = (
    "place",
    "count",
    "size",
    "colour",
    "animal",
    "relation",
    "landmark_colour",
    "landmark",
)
"""The factors that a picture shows: all but style and tense."""

OVERSAMPLING = 4

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 215, 40),
    "green": (60, 165, 70),
    "blue": (45, 100, 220),
    "purple": (145, 60, 175),
}
TONES = {
    "dark": (35, 30, 45),
    "white": (255, 255, 255),
    "pink": (245, 165, 175),
    "beak": (245, 170, 60),
    "wood": (125, 85, 55),
    "glass": (205, 232, 245),
    "cream": (246, 236, 214),
}

# Sizes as shares of the picture's side: three large animals and a landmark must fit.
ANIMAL_SIZES = {"small": 0.21, "medium": 0.26, "large": 0.33}
LANDMARK_SIZE = 0.47
COUNTS = {"one": 1, "two": 2, "three": 3}
# Centres (x, y) of the row or column of animals and of the landmark.
LAYOUTS = {
    "alone": ((0.5, 0.62), None),
    "above": ((0.5, 0.23), (0.5, 0.73)),
    "below": ((0.5, 0.77), (0.5, 0.27)),
    "left": ((0.22, 0.5), (0.72, 0.6)),
    "right": ((0.78, 0.5), (0.28, 0.6)),
}

# For each place: the sky from top to horizon, the ground from horizon to bottom, the horizon's
# height, and flat shapes in the coordinates of `shapes`.
_Rgb: TypeAlias = tuple[int, int, int]
PLACES: dict[str, tuple[_Rgb, _Rgb, _Rgb, _Rgb, float]] = {
    "meadow": ((150, 205, 245), (225, 242, 250), (165, 215, 120), (130, 190, 95), 0.5),
    "beach": ((170, 220, 245), (215, 240, 250), (250, 232, 180), (240, 214, 150), 0.66),
    "forest": ((175, 205, 190), (205, 225, 205), (110, 140, 95), (85, 115, 75), 0.62),
    "desert": ((250, 205, 160), (253, 232, 200), (236, 190, 120), (220, 165, 95), 0.55),
    "mountain": ((185, 200, 230), (225, 232, 245), (245, 248, 252), (220, 230, 242), 0.68),
    "city": ((190, 190, 205), (225, 220, 225), (150, 150, 158), (120, 120, 130), 0.72),
}


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
    return left, top, right, top, right, bottom, left, bottom


SCENERY: dict[str, tuple[tuple[_Rgb, str, tuple[float, ...]], ...]] = {
    "meadow": (
        ((185, 225, 140), "ellipse", (-0.6, 0.35, 1.0, 0.5)),
        ((255, 255, 255), "ellipse", (0.55, -0.7, 0.3, 0.12)),
        ((255, 255, 255), "ellipse", (-0.55, -0.55, 0.25, 0.1)),
        ((255, 245, 190), "ellipse", (-0.8, 0.75, 0.06, 0.06)),
        ((255, 210, 225), "ellipse", (0.15, 0.9, 0.06, 0.06)),
        ((255, 245, 190), "ellipse", (0.8, 0.6, 0.06, 0.06)),
    ),
    "beach": (
        ((95, 180, 215), "polygon", _box(-1, -0.2, 1, 0.4)),
        ((235, 248, 252), "ellipse", (-0.5, 0.42, 0.8, 0.07)),
        ((235, 248, 252), "ellipse", (0.6, 0.38, 0.7, 0.06)),
        ((255, 240, 150), "ellipse", (0.75, -0.75, 0.18, 0.18)),
    ),
    "forest": tuple(
        (
            (95, 140, 105) if tall else (120, 165, 125),
            "polygon",
            (x, top, x + 0.32, 0.4, x - 0.32, 0.4),
        )
        for x, top, tall in (
            *((-0.95, -0.9, 0), (-0.15, -0.8, 0), (0.6, -0.95, 0)),
            *((-0.55, -0.6, 1), (0.25, -0.55, 1), (0.95, -0.65, 1)),
        )
    ),
    "desert": (
        ((255, 245, 215), "ellipse", (-0.7, -0.7, 0.2, 0.2)),
        ((226, 176, 108), "ellipse", (0.5, 0.5, 0.9, 0.45)),
        ((240, 200, 135), "ellipse", (-0.6, 0.75, 0.9, 0.4)),
        ((110, 150, 95), "polygon", _box(0.82, -0.25, 0.92, 0.35)),
        ((110, 150, 95), "polygon", _box(0.68, -0.1, 0.74, 0.1)),
        ((110, 150, 95), "polygon", _box(0.68, 0.05, 0.86, 0.12)),
    ),
    "mountain": (
        ((150, 160, 190), "polygon", (-0.4, -0.85, 0.55, 0.4, -1.35, 0.4)),
        ((135, 145, 178), "polygon", (0.6, -0.55, 1.4, 0.4, -0.2, 0.4)),
        ((250, 252, 255), "polygon", (-0.4, -0.85, -0.1, -0.45, -0.4, -0.55, -0.7, -0.45)),
        ((250, 252, 255), "polygon", (0.6, -0.55, 0.83, -0.28, 0.6, -0.36, 0.37, -0.28)),
    ),
    "city": (
        *(
            ((168, 165, 185), "polygon", _box(left, top, left + 0.36, 0.45))
            for left, top in (
                (-1.0, -0.35),
                (-0.58, -0.75),
                (-0.12, -0.45),
                (0.3, -0.9),
                (0.7, -0.5),
            )
        ),
        *(
            ((240, 230, 175), "polygon", _box(x, y, x + 0.08, y + 0.1))
            for x, y in (
                *((-0.52, -0.6), (-0.36, -0.6), (-0.52, -0.3), (0.36, -0.75), (0.52, -0.75)),
                *((0.52, -0.45), (-0.92, -0.2), (0.02, -0.3), (0.8, -0.35), (0.36, -0.15)),
            )
        ),
        ((235, 235, 235), "polygon", _box(-0.9, 0.78, -0.4, 0.83)),
        ((235, 235, 235), "polygon", _box(-0.1, 0.78, 0.4, 0.83)),
        ((235, 235, 235), "polygon", _box(0.7, 0.78, 1.2, 0.83)),
    ),
}


def render(scene: Mapping[str, str] | str, size: int = 32) -> NDArray[np.uint8]:
    """Draw a scene, or the scene of a sentence.

    Args:
        scene: Factor → value (style and tense are optional), or a sentence.
        size: The picture's side in pixels, at least 32.

    Returns:
        RGB values from 0 to 255, [size size 3]. A scene has one picture, and two scenes that
        differ in a factor of `VISIBLE` have different pictures.

    Raises:
        IsthmusError: The text is not of the corpus, a visible factor is missing or has an
            unknown value, or the size is too small.
    """
    if size < 32:
        raise IsthmusError(f"a picture needs a size of at least 32 pixels, got {size}")
    factors = corpus.factors(scene) if isinstance(scene, str) else scene
    _check(factors)
    picture = _background(factors["place"], size).copy()
    animals, landmark = LAYOUTS[factors["relation"]]
    if landmark:
        stamp = _stamp(factors["landmark"], factors["landmark_colour"], LANDMARK_SIZE, size)
        _paste(picture, stamp, landmark)
    stamp = _stamp(factors["animal"], factors["colour"], ANIMAL_SIZES[factors["size"]], size)
    count = COUNTS[factors["count"]]
    in_column = factors["relation"] in ("left", "right")
    for number in range(count):
        shift = (number - (count - 1) / 2) * 0.325
        x, y = animals
        _paste(picture, stamp, (x, y + shift) if in_column else (x + shift, y))
    return np.rint(picture).astype(np.uint8)


def _check(factors: Mapping[str, str]) -> None:
    for factor in corpus.WORLD.factors:
        if factor.name not in VISIBLE:
            continue
        absent = factor.unless and factors.get(factor.unless[0]) == factor.unless[1]
        if not absent and factors.get(factor.name) not in factor.weights:
            raise IsthmusError(
                f"a picture needs '{factor.name}' as one of {list(factor.weights)}, got "
                f"{factors.get(factor.name)!r}"
            )


def _grid(pixels: int) -> tuple[Array, Array]:
    """Coordinates of the sub-pixels: y [n 1] and x [1 n], from −1 to 1."""
    steps = (np.arange(pixels * OVERSAMPLING) + 0.5) / (pixels * OVERSAMPLING) * 2 - 1
    return steps[:, None], steps[None, :]


def _reduce(fine: Array) -> Array:
    """Means over the sub-pixels of each pixel."""
    pixels = len(fine) // OVERSAMPLING
    blocks = fine.reshape(pixels, OVERSAMPLING, pixels, OVERSAMPLING, -1)
    means: Array = blocks.mean((1, 3))
    return means


@cache
def _background(place: str, size: int) -> Array:
    y, x = _grid(size)
    sky_top, sky_low, ground_top, ground_low, horizon = (np.array(v) for v in PLACES[place])
    height = (y[..., None] + 1) / 2
    sky = sky_top + (sky_low - sky_top) * height / horizon
    ground = ground_top + (ground_low - ground_top) * (height - horizon) / (1 - horizon)
    rows = np.where(height < horizon, sky, ground)
    fine = np.broadcast_to(rows, (len(y), x.shape[1], 3)).copy()
    for colour, kind, numbers in SCENERY[place]:
        fine[shapes.inside(kind, numbers, x, y)] = colour
    return _reduce(fine)


@cache
def _stamp(name: str, colour: str, part: float, size: int) -> Array:
    """A figure with its outline: premultiplied RGB and opacity [side side 4]."""
    side = round(part * size)
    y, x = _grid(side)
    margin = 1 + 1.2 / (side / 2)  # the outline is about one pixel wide
    y, x = y * margin, x * margin
    figure = (shapes.ANIMALS | shapes.LANDMARKS)[name]
    body = np.array(COLOURS[colour], dtype=float)
    tones: dict[str, Array] = {
        **{tone: np.array(rgb, dtype=float) for tone, rgb in TONES.items()},
        "body": body,
        "shade": body * 0.72,
        "light": body + (255 - body) * 0.55,
    }
    fine = np.zeros((len(y), x.shape[1], 4))
    for tone, kind, numbers in figure:
        fine[shapes.inside(kind, numbers, x, y)] = np.append(tones[tone], 1.0)
    edge = _grow(fine[..., 3] > 0, max(OVERSAMPLING * size // 56, 2)) & (fine[..., 3] == 0)
    fine[edge] = np.append(tones["dark"], 1.0)
    return _reduce(fine)


def _grow(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask widened by a disc of `steps` sub-pixels."""
    grown = mask.copy()
    padded = np.pad(mask, steps)
    rows, columns = mask.shape
    for down in range(-steps, steps + 1):
        for right in range(-steps, steps + 1):
            if down**2 + right**2 <= steps**2:
                top, left = steps + down, steps + right
                grown |= padded[top : top + rows, left : left + columns]
    return grown


def _paste(picture: Array, stamp: Array, centre: tuple[float, float]) -> None:
    """Draw a stamp onto the picture in place; its centre is a share of the sides."""
    size, side = len(picture), len(stamp)
    x, y = (min(max(round(part * size - side / 2), 0), size - side) for part in centre)
    window = picture[y : y + side, x : x + side]
    window *= 1 - stamp[..., 3:]
    window += stamp[..., :3]
