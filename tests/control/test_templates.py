"""Second-level codes: what is written is read back, or is refused."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from isthmus.control.templates import LINK, QUESTION, RATING, TITLED, TRANSLATION
from isthmus.errors import IsthmusError

WORDS = st.lists(st.from_regex(r"[^\W_:;]+", fullmatch=True), min_size=1).map(" ".join)
LANGUAGE = st.sampled_from(["English", "French", "Deutsch", "Español"])
TRICKY = st.text(st.sampled_from("aQAT:; \n{}") | st.characters(), min_size=1) | st.sampled_from(
    ["a Text: b", "a A: b", "a A:", " A:", "x ; French : y", "Text: ", " "]
)


def forms(text):
    """Fields for each template, its optional field there or not."""
    languages = {"source_language": LANGUAGE, "target_language": LANGUAGE, "source": text}
    return st.one_of(
        st.tuples(st.just(TITLED), st.fixed_dictionaries({"title": text, "text": text})),
        st.tuples(
            st.just(QUESTION), st.fixed_dictionaries({"question": text}, optional={"answer": text})
        ),
        st.tuples(
            st.just(TRANSLATION), st.fixed_dictionaries(languages, optional={"target": text})
        ),
    )


@given(forms(WORDS))
def test_words_are_written_and_read_back(case):
    template, fields = case
    assert template.parse(template.render(**fields)) == fields


@given(forms(TRICKY))
def test_any_text_is_read_back_or_refused(case):
    template, fields = case
    try:
        text = template.render(**fields)
    except IsthmusError:
        event("refused")
    else:
        assert template.parse(text) == fields


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        (TITLED, {"title": "a Text: b", "text": "c"}),
        (QUESTION, {"question": "a A: b", "answer": "c"}),
        (QUESTION, {"question": "a A:"}),
    ],
)
def test_words_of_the_form_inside_of_a_field(template, fields):
    """Read back, they would end the field too early."""
    with pytest.raises(IsthmusError, match="could not be read back"):
        template.render(**fields)


@given(st.integers(10, 59).map(lambda tenths: tenths / 10))
def test_ratings(rating):
    text = RATING.render(rating=rating)
    assert text == f"Rating: {rating}"
    assert float(RATING.parse(text)["rating"]) == rating


SLUG = st.from_regex(r"[a-z0-9-]+", fullmatch=True)
DATE = st.dates().map(lambda date: f"{date:%Y/%m/%d}".zfill(10))


@given(path=st.lists(SLUG, max_size=3), date=st.none() | DATE, place=st.integers(0, 3))
def test_links(path, date, place):
    dated = path[:place] + ([date] if date else []) + path[place:]
    url = "/".join(["https://www.cnn.com", *dated])
    fields = LINK.parse(url)
    assert fields["url"] == url
    assert LINK.render(**fields) == url
    if date:
        assert fields["date"] == date
        bare = "/".join(["https://www.cnn.com", *path])
        assert LINK.render(url=bare, date=date) == "/".join(["https://www.cnn.com", date, *path])


def test_a_date_is_a_part_of_the_path():
    assert "date" not in LINK.parse("https://a.org/x2018/09/20y?from=/2018/09/20")
    assert LINK.render(url="https://a.org/slug?q=1", date="2018/09/20") == (
        "https://a.org/2018/09/20/slug?q=1"
    )


def test_forms_as_printed():
    assert QUESTION.render(question="Who?", answer="Me.") == "Q: Who? A: Me."
    assert QUESTION.render(question="Who?") == "Q: Who? A:"
    fields = {"source_language": "English", "source": "Hello", "target_language": "French"}
    assert TRANSLATION.render(**fields) == "English : Hello ; French :"
    assert TRANSLATION.render(**fields, target="Salut") == "English : Hello ; French : Salut"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (RATING, "Rating: 7.0"),
        (RATING, "Rating: good"),
        (RATING, "rating: 5.0"),
        (TITLED, "Title: only"),
        (QUESTION, "Q: no answer"),
        (TRANSLATION, "English : Hello ; French"),
        (LINK, "www.cnn.com/slug"),
        (LINK, "https://a.org/with space"),
    ],
)
def test_another_form_is_refused(template, text):
    with pytest.raises(IsthmusError, match=r"got .*, expected"):
        template.parse(text)


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        (RATING, {}),
        (RATING, {"rating": 6}),
        (TITLED, {"title": "a"}),
        (TITLED, {"title": "a", "text": "b", "date": "c"}),
        (QUESTION, {"answer": "a"}),
        (QUESTION, {"question": ""}),
        (TRANSLATION, {"source_language": "", "source": "a", "target_language": "French"}),
        (LINK, {"url": "https://a.org", "date": "yesterday"}),
        (LINK, {"url": "https://a.org", "slug": "x"}),
        (LINK, {"date": "2018/09/20"}),
    ],
)
def test_fields_that_do_not_fit_are_refused(template, fields):
    with pytest.raises(IsthmusError, match="got"):
        template.render(**fields)
