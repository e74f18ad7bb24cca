"""What ``import isthmus`` offers: from data to a space, and what to do in it, one call each.

A :class:`Space` is a trained model with all of it as methods. The functions do the same with a
space or a bare model (:class:`isthmus.models.base.LatentModel`). Where they take ``data``, they
take what the command line takes (a file, a folder, ``scenes``, a Hugging Face data set name), or
the examples themselves: a sequence, a column of pandas, polars or datasets, or such a table.
"""

from isthmus.api.fitting import fit
from isthmus.api.inverting import invert
from isthmus.api.measuring import evaluate
from isthmus.api.searching import optimise
from isthmus.api.space import Space
from isthmus.api.walking import (
    Exchanged,
    Neighbour,
    analogy,
    arithmetic,
    cluster,
    exchange,
    interpolate,
    means,
    neighbours,
    sample,
)

__all__ = [
    "Exchanged",
    "Neighbour",
    "Space",
    "analogy",
    "arithmetic",
    "cluster",
    "evaluate",
    "exchange",
    "fit",
    "interpolate",
    "invert",
    "means",
    "neighbours",
    "optimise",
    "sample",
]
