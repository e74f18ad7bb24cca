"""Second-level codes of CTRL: fixed forms of free text, written and read back.

What is written can be read back or is refused: :meth:`Template.render` reads its own result.

References:
    Keskar et al. (2019), CTRL, section 4.2.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import final
from urllib.parse import urlsplit

from isthmus.errors import IsthmusError

_DATE = re.compile(r"(?<=/)\d{4}/\d{2}/\d{2}(?=/|$)")


class Template(ABC):
    """A form with named fields."""

    @abstractmethod
    def render(self, **fields: object) -> str:
        """Write the fields into the form.

        Raises:
            IsthmusError: A field is missing, unknown, or such that it could not be read back.
        """

    @abstractmethod
    def parse(self, text: str) -> dict[str, str]:
        """Read the fields; one that may be absent, and is, has no entry.

        Raises:
            IsthmusError: The text has another form.
        """


@final
@dataclass(frozen=True)
class Form(Template):
    """Fields between fixed words, such as ``Title: {title} Text: {text}``.

    Attributes:
        form: the words, fields in braces.
        optional: the last field, if it may be absent (a question without its answer).
        patterns: regular expressions of fields that are not any text.
    """

    form: str
    optional: str = ""
    patterns: Mapping[str, str] = field(default_factory=dict)

    def render(self, **fields: object) -> str:
        """Write the fields into the form."""
        given = {name: str(value) for name, value in fields.items()}
        names = [name for _, name, _, _ in Formatter().parse(self.form) if name]
        if not set(names) - {self.optional} <= set(given) <= set(names):
            raise IsthmusError(
                f"fields: got {', '.join(given) or 'none'}, expected {', '.join(names)} for the "
                f"form {self.form!r}"
            )
        form = self.form if self.optional in given else self._without_the_last()
        text = form.format(**given)
        match = self._expression().fullmatch(text)
        if match is None or _found(match) != given:
            special = "".join(f", {name} like {like}" for name, like in self.patterns.items())
            raise IsthmusError(
                f"fields: got {given}, which could not be read back from {text!r}; expected "
                f"fields that are not empty, without words of the form in them{special}"
            )
        return text

    def parse(self, text: str) -> dict[str, str]:
        """Read the fields."""
        match = self._expression().fullmatch(text)
        if match is None:
            raise IsthmusError(f"code: got {text!r}, expected the form {self.form!r}")
        return _found(match)

    def _without_the_last(self) -> str:
        """The form up to its optional field."""
        return self.form.removesuffix(f" {{{self.optional}}}") if self.optional else self.form

    def _expression(self) -> re.Pattern[str]:
        """Each field takes as little as it can, so that the first fixed word ends it."""
        expression = ""
        for words, name, _, _ in Formatter().parse(self.form):
            if name and name == self.optional:
                expression += rf"{re.escape(words[:-1])}(?: (?P<{name}>.+))?"
            elif name:
                expression += rf"{re.escape(words)}(?P<{name}>{self.patterns.get(name, '.+?')})"
        return re.compile(expression, re.DOTALL)


@final
@dataclass(frozen=True)
class Link(Template):
    """An address, with the date inside of its path: ``https://host/2018/09/20/slug``.

    Fields: ``url``, and ``date`` as in the path (2018/09/20), which may be absent.
    """

    def render(self, *, url: object = "", date: object = "", **others: object) -> str:
        """The address; a date that it does not have is put right after its host."""
        if others:
            raise IsthmusError(f"fields: got {', '.join(others)}, expected url and date")
        text, wanted = str(url), str(date)
        if wanted and wanted != self.parse(text).get("date"):
            parts = urlsplit(text)
            text = parts._replace(path=f"/{wanted}{parts.path}").geturl()
        if wanted and self.parse(text).get("date") != wanted:
            raise IsthmusError(f"date of a link: got {wanted!r}, expected one such as 2018/09/20")
        self.parse(text)
        return text

    def parse(self, text: str) -> dict[str, str]:
        """The whole address, and its first date if it has one."""
        if not re.fullmatch(r"https?://[^\s/?#]+(?:[/?#]\S*)?", text):
            raise IsthmusError(f"link: got {text!r}, expected https://HOST/PATH without spaces")
        date = _DATE.search(urlsplit(text).path)
        return {"url": text} | ({"date": date[0]} if date else {})


def _found(match: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in match.groupdict().items() if value is not None}


RATING = Form("Rating: {rating}", patterns={"rating": r"[1-5](?:\.\d)?"})
"""After Reviews: from 1.0 to 5.0."""
TITLED = Form("Title: {title} Text: {text}")
"""After a code of Reddit."""
QUESTION = Form("Q: {question} A: {answer}", optional="answer")
"""After Questions."""
TRANSLATION = Form(
    "{source_language} : {source} ; {target_language} : {target}",
    optional="target",
    patterns={"source_language": r"\w+", "target_language": r"\w+"},
)
"""After Translation."""
LINK = Link()
"""After Links."""
