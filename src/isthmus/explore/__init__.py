"""What to do with a trained space: sample it, walk in it, cluster it, transfer style, extend it.

Of latents alone: :func:`interpolate`, :func:`between`, :func:`analogy`, :func:`exchange`,
:func:`exchanges`, :func:`traverse`, :func:`without_details`, :func:`neighbours`, :func:`cluster`,
:func:`mixture_of`. Of a model and latents: :func:`waypoints`, :func:`arithmetic`, :func:`sample`,
:func:`drawing`, :func:`decode_as`, :func:`likely_labels`, :func:`labels_between`,
:func:`losses_under`, :func:`components`, :func:`move`, :func:`least_change`. Of documents:
:func:`windows`, :func:`in_windows`, :func:`reads_documents`, :func:`encode_document`,
:func:`decode_document`, :func:`sentences`, :func:`walk_sentences`. These change a model:
:func:`refit`, :func:`fit_best`, :func:`add_words`.
"""

from isthmus.explore.documents import (
    decode_document,
    encode_document,
    in_windows,
    reads_documents,
    sentences,
    walk_sentences,
    windows,
)
from isthmus.explore.refit import fit_best, refit
from isthmus.explore.search import arithmetic, waypoints
from isthmus.explore.transfer import Change, Step, label_means, least_change, move, shifted
from isthmus.explore.vocabulary import add_words
from isthmus.explore.walks import (
    analogy,
    between,
    cluster,
    components,
    decode_as,
    drawing,
    exchange,
    exchanges,
    interpolate,
    labels_between,
    likely_labels,
    losses_under,
    mixture_of,
    neighbours,
    sample,
    traverse,
    unwritten,
    without_details,
)

__all__ = [
    "Change",
    "Step",
    "add_words",
    "analogy",
    "arithmetic",
    "between",
    "cluster",
    "components",
    "decode_as",
    "decode_document",
    "drawing",
    "encode_document",
    "exchange",
    "exchanges",
    "fit_best",
    "in_windows",
    "interpolate",
    "label_means",
    "labels_between",
    "least_change",
    "likely_labels",
    "losses_under",
    "mixture_of",
    "move",
    "neighbours",
    "reads_documents",
    "refit",
    "sample",
    "sentences",
    "shifted",
    "traverse",
    "unwritten",
    "walk_sentences",
    "waypoints",
    "windows",
    "without_details",
]
