"""Labels: their indices among the known names, and which of them training observes."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from isthmus.data.files import clean_label
from isthmus.data.kind import Corpus
from isthmus.errors import IsthmusError

_SHOWN = 10


def label_index(label: str, names: Sequence[str], what: str = "label") -> int:
    """Return the index of a label among the names that a model knows.

    Args:
        label: The label to find; 1.0 finds "1", and " good " finds "good".
        names: The known labels.
        what: What an error calls the label.

    Raises:
        IsthmusError: The label is unknown; the error suggests the most similar names.
    """
    if label in names:
        return list(names).index(label)
    cleaned = [clean_label(name) for name in names]
    if label and cleaned.count(clean_label(label)) == 1:
        return cleaned.index(clean_label(label))
    near = get_close_matches(label, names, n=3)
    known = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {known}"
    raise IsthmusError(f"{what}: got {label!r}, which this model does not know; {hint}")


def label_places(labels: Sequence[str | None], names: Sequence[str]) -> NDArray[np.int64]:
    """The index of each label among the names, −1 for None, [N]; raises as `label_index`."""
    places = [-1 if label is None else label_index(label, names) for label in labels]
    return np.asarray(places, dtype=np.int64)


def split_label(label: str, separator: str) -> tuple[str, str]:
    """Split a label into a code and the free text after it; without a separator all is the code.

    "Reviews Rating: 5.0" at " " gives ("Reviews", "Rating: 5.0"): the levels of CTRL (Keskar et
    al. 2019, section 3).
    """
    if not separator:
        return label, ""
    name, _, detail = label.partition(separator)
    return name.strip(), detail.strip()


def codes(labels: Sequence[str | None] | None, separator: str) -> list[str | None]:
    """The codes of labels, without the free text after them."""
    return [label and split_label(label, separator)[0] for label in labels or ()]


def observed_labels(
    corpus: Corpus, count: int, seed: int, separator: str = ""
) -> list[str | None]:
    """Choose the labels that semi-supervised training observes, and hide the others.

    Every class keeps its share of the labels, to the nearest whole number, and at least one.

    Args:
        corpus: Examples of which some or all have labels.
        count: Number of labels to keep; 0 keeps all.
        seed: With the labels it determines which ones are kept.
        separator: What separates the class in a label from its detail, see `split_label`.

    Returns:
        The label of each example, None if it is hidden or missing.

    Raises:
        IsthmusError: The corpus has no labels, fewer than `count`, or more than `count` classes.
    """
    labels = corpus.known_labels
    known = [] if labels is None else [n for n, label in enumerate(labels) if label is not None]
    if labels is None or not known:
        raise IsthmusError(
            f"{corpus.source}: the {corpus.kind.field}s have no labels, and model.labels is "
            f'"given"; use {corpus.kind.label_source}, or leave --model.labels out'
        )
    if count == 0:
        return list(labels)
    classes = {place: split_label(labels[place] or "", separator)[0] for place in known}
    sizes = Counter(classes.values())
    if not len(sizes) <= count <= len(known):
        raise IsthmusError(
            f"data.labelled: got {count:,}, expected at least one label for each of the "
            f"{len(sizes):,} classes and at most the {len(known):,} labelled "
            f"{corpus.kind.field}s of {corpus.source}"
        )
    kept = _shares(sizes, count)
    # Philox gives the same numbers on every machine.
    order = np.random.Generator(np.random.Philox(key=seed % 2**64)).permutation(len(corpus))
    observed: list[str | None] = [None] * len(corpus)
    for place in order.tolist():
        if place in classes and kept[classes[place]]:
            kept[classes[place]] -= 1
            observed[place] = labels[place]
    return observed


def _shares(sizes: Counter[str], count: int) -> dict[str, int]:
    """Divide `count` labels among the classes: one each, then to the largest remaining share."""
    total = sizes.total()
    shares = dict.fromkeys(sorted(sizes), 1)
    for _ in range(count - len(sizes)):
        open_ = [label for label in shares if shares[label] < sizes[label]]
        most = max(open_, key=lambda label: sizes[label] * count / total - shares[label])
        shares[most] += 1
    return shares
