"""Codes as people write them: found, split, mixed, and refused if unknown."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.control.codes import Code, CodeBook
from isthmus.errors import IsthmusError

BOOK = CodeBook(
    ("Books", "Reviews", "Links", "Science", "Science Fiction", "Questions", "Translation")
)
TREC = CodeBook(("DESC", "HUM"), ":")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Books", Code("Books")),
        ("Reviews Rating: 5.0", Code("Reviews", "Rating: 5.0")),
        ("  Reviews   Rating: 5.0 ", Code("Reviews", "Rating: 5.0")),
        ("Science of things", Code("Science", "of things")),
        ("Science Fiction of things", Code("Science Fiction", "of things")),
        ("Science Fictional", Code("Science", "Fictional")),
    ],
)
def test_the_longest_known_name(text, code):
    assert BOOK.parse(text) == code


def test_a_separator():
    assert TREC.parse("DESC:manner") == Code("DESC", "manner")
    assert TREC.parse("HUM : ind: x") == Code("HUM", "ind: x")
    assert TREC.parse("HUM") == Code("HUM")


@given(
    book=st.sampled_from([BOOK, TREC]),
    detail=st.sampled_from(["Fiction of things", " x"]) | st.text(),
    data=st.data(),
)
def test_what_is_written_is_read_back(book, detail, data):
    name = data.draw(st.sampled_from(book.names))
    found = book.parse(f"{name}{book.separator or ' '}{detail}" if detail else name)
    if name == "Science" and book is BOOK and re.match(r"Fiction(\s|$)", detail):
        assert found.name == "Science Fiction"
    else:
        assert found == Code(name, detail.strip())


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Revews Rating: 5.0", "got 'Revews', .*did you mean Reviews"),
        ("Sience Fiction of things", "got 'Sience Fiction', .*Science Fiction"),
        ("Bookshop", "got 'Bookshop', .*Books"),
        ("zzz", "expected one of Books, Reviews, Links"),
        ("", "code: got ''"),
    ],
)
def test_an_unknown_code_is_refused_with_the_nearest(text, near):
    with pytest.raises(IsthmusError, match=near) as error:
        BOOK.parse(text)
    assert str(error.value).startswith("code: got")
    assert "\n" not in str(error.value)


def test_unknown_before_a_separator():
    with pytest.raises(IsthmusError, match=r"got 'DES', .*DESC"):
        TREC.parse("DES:manner")
    with pytest.raises(IsthmusError, match="got 'DESC manner'"):
        TREC.parse("DESC manner")


@pytest.mark.parametrize("names", [(), ("a", "a"), ("",), (" a",), ("a:b",), ("a=b",)])
def test_names_that_could_not_be_read_back(names):
    with pytest.raises(IsthmusError, match="codes: got"):
        CodeBook(names, ":")


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4))
def test_weights_are_divided_by_their_sum(weights):
    names = BOOK.names[: len(weights)]
    found = BOOK.requested([f"{n}={w}" for n, w in zip(names, weights, strict=True)])
    assert found.codes == tuple(Code(name) for name in names)
    assert math.fsum(found.weights) == pytest.approx(1)
    assert found.weights[0] / found.weights[-1] == pytest.approx(weights[0] / weights[-1])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["Reviews"], Code("Reviews")),
        (["Reviews", "Rating: 5.0"], Code("Reviews", "Rating: 5.0")),
        (["Reviews", "Rating:", "5.0"], Code("Reviews", "Rating: 5.0")),
        (["Reviews Rating:", "5.0"], Code("Reviews", "Rating: 5.0")),
        (["Science", "Fiction", "x"], Code("Science Fiction", "x")),
        (["Links", "https://a.org/?q=1"], Code("Links", "https://a.org/?q=1")),
    ],
)
def test_one_code_and_its_free_text(arguments, code):
    found = BOOK.requested(arguments)
    assert found.codes == (code,)
    assert found.weights == (1.0,)


def test_free_text_needs_no_separator_on_the_command_line():
    for arguments in (["DESC", "manner of"], ["DESC:manner", "of"], ["DESC", "manner", "of"]):
        assert TREC.requested(arguments).codes == (Code("DESC", "manner of"),)


def test_details_and_weights():
    found = BOOK.requested(["Reviews Rating: 5.0=3", "Books=1"])
    assert found.codes == (Code("Reviews", "Rating: 5.0"), Code("Books"))
    assert found.weights == (0.75, 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "codes: got none"),
        (["Books=0.7", "Reviews"], "got 'Reviews' without a weight"),
        (["Reviews", "Books=0.7"], "got 'Reviews' without a weight"),
        (["Books=0.7", "Reviews=many"], "weight of a code: got 'many'"),
        (["Books="], "weight of a code: got ''"),
        (["Books=0"], "weight of a code: got '0'"),
        (["Books=-1"], "weight of a code: got '-1'"),
        (["Books=inf"], "weight of a code: got 'inf'"),
        (["Books=nan"], "weight of a code: got 'nan'"),
        (["Boks=1"], "code: got 'Boks', .*Books"),
        (["Boks", "x"], "code: got 'Boks', .*Books"),
        (["Links https://a.org/?q=x"], "as an argument of its own"),
    ],
)
def test_invalid_requests(arguments, message):
    with pytest.raises(IsthmusError, match=message):
        BOOK.requested(arguments)
