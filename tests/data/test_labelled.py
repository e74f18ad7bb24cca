"""Which labels training observes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.corpus import TextCorpus
from isthmus.data.labelled import label_index, observed_labels
from isthmus.errors import IsthmusError


def corpus_of(labels):
    texts = [f"text {place}" for place in range(len(labels or "four"))]
    return TextCorpus(texts, labels, "reviews.tsv")


LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 9 + ["d"]


def test_every_class_keeps_its_share():
    observed = observed_labels(corpus_of(LABELS), 20, seed=0)
    assert Counter(label for label in observed if label) == {"a": 12, "b": 6, "c": 1, "d": 1}
    assert all(label in (None, true) for label, true in zip(observed, LABELS, strict=True))


def test_a_function_of_the_seed():
    corpus = corpus_of(LABELS)
    assert (
        observed_labels(corpus, 20, 1)
        == observed_labels(corpus, 20, 1)
        != observed_labels(corpus, 20, 2)
    )
    assert observed_labels(corpus, 0, 1) == observed_labels(corpus, 100, 2) == LABELS


@given(
    labels=st.lists(st.sampled_from("abcde"), min_size=1, max_size=60),
    count=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_as_many_as_are_asked_for_and_one_of_each(labels, count, seed):
    classes = set(labels)
    if not len(classes) <= count <= len(labels):
        with pytest.raises(IsthmusError, match=r"data\.labelled: got"):
            observed_labels(corpus_of(labels), count, seed)
        return
    observed = [label for label in observed_labels(corpus_of(labels), count, seed) if label]
    assert len(observed) == count
    assert set(observed) == classes


def test_texts_without_labels():
    with pytest.raises(IsthmusError, match=r"^reviews.tsv: the texts have no labels.*label TAB"):
        observed_labels(TextCorpus(["a", "b"], None, "reviews.tsv"), 5, 0)


def test_the_nearest_names_are_suggested():
    names = ("negative", "positive", "neutral")
    assert label_index("neutral", names) == 2
    with pytest.raises(IsthmusError, match="did you mean negative"):
        label_index("negatve", names)
    many = [f"class {number}" for number in range(30)]
    with pytest.raises(IsthmusError, match=r"expected one of class 0, .*class 9, …$"):
        label_index("zzz", many)
