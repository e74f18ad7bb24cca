"""Pictures of signs: by cluster on a contact sheet, and side by side on a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.data.pictures.grid import image_of
from isthmus.signs.clusters import Labels, squared_distances
from isthmus.signs.normalise import SIZE, Picture

COLUMNS = 24
"""Pictures in a row of the contact sheet."""
MAP_WIDTH = 1600
ROOM = 1.6
"""Cells of the map per sign: empty cells separate groups."""


def ink(picture: Picture) -> NDArray[np.uint8]:
    """A picture [64 64] as levels of black ink on white, [1 64 64]."""
    return (255 * (1 - np.clip(picture, 0, 1)) + 0.5).astype(np.uint8)[None]


def by_cluster(clusters: Labels, counts: NDArray[Any]) -> dict[int, list[int]]:
    """Cluster → its pictures; both sorted by tokens, most first."""
    members: dict[int, list[int]] = {}
    for picture in np.lexsort((np.arange(len(counts)), -counts)).tolist():
        members.setdefault(int(clusters[picture]), []).append(picture)
    return dict(sorted(members.items(), key=lambda item: (-int(counts[item[1]].sum()), item[0])))


def contact_sheet(pictures: Picture, clusters: Labels, counts: NDArray[Any], path: Path) -> None:
    """Write a PNG with the pictures of every cluster, between grey lines."""
    from PIL import Image, ImageDraw

    step, left = SIZE + 4, 48
    blocks = by_cluster(clusters, counts)
    rows = {cluster: -(-len(members) // COLUMNS) for cluster, members in blocks.items()}
    height = sum(rows.values()) * step + 3 * len(rows)
    sheet = Image.new("L", (left + COLUMNS * step, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for cluster, members in blocks.items():
        draw.line((0, top, sheet.width, top), fill=170)
        draw.text((4, top + 4), str(cluster), fill=0)
        for place, picture in enumerate(members):
            down, right = divmod(place, COLUMNS)
            sheet.paste(
                image_of(ink(pictures[picture])), (left + right * step, top + 3 + down * step)
            )
        top += rows[cluster] * step + 3
    sheet.save(path)


def positions(codes: NDArray[Any], seed: int = 0) -> NDArray[np.int64]:
    """A cell of a grid for each of the codes [M P], [M 2], no two equal.

    t-SNE (van der Maaten and Hinton 2008), then the assignment to cells that moves the signs
    least in sum of squares, so that none covers another. Neighbours on the map are neighbours in
    the codes; distances between groups mean nothing. Fewer than eight pictures are placed by
    their principal components.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(codes) < 8:
        padded = np.pad(codes, ((0, max(0, 2 - len(codes))), (0, max(0, 2 - codes.shape[1]))))
        flat = PCA(2).fit_transform(padded)[: len(codes)]
    else:
        perplexity = min(30.0, (len(codes) - 1) / 3)
        flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)
    low, high = flat.min(0), flat.max(0)
    flat = (flat - low) / np.where(high > low, high - low, 1)
    side = int(np.ceil((ROOM * len(codes)) ** 0.5))
    cells = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    chosen = linear_sum_assignment(squared_distances(flat * (side - 1), cells))[1]
    return np.asarray(cells[chosen], dtype=np.int64)


def map_picture(pictures: Picture, places: NDArray[np.int64], path: Path) -> None:
    """Write a PNG with every sign in its cell."""
    from PIL import Image

    width = MAP_WIDTH // (int(places.max()) + 1)
    sheet = Image.new("L", (MAP_WIDTH, MAP_WIDTH), "white")
    for picture, place in zip(pictures, places, strict=True):
        small = image_of(ink(picture)).resize((width - 1, width - 1))
        sheet.paste(small, (int(place[0]) * width, int(place[1]) * width))
    sheet.save(path)
