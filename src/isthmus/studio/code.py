"""Python and commands that give an answer of the studio again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from isthmus.control.sampling import Penalty
from isthmus.models.generation import Generation
from isthmus.studio.bodies import Index
from isthmus.studio.examples import fit_of, for_texts
from isthmus.studio.limits import CORPUS, is_address
from isthmus.studio.space import Space

Given = str | Index


@final
class Script:
    """Python that gives an answer again, written line by line.

    Arguments:
        space: the run that it opens.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._imports: dict[str, set[str]] = {}
        self._lines: list[str] = []

    def use(self, module: str, *names: str) -> None:
        """Import names."""
        self._imports.setdefault(module, set()).update(names)

    def say(self, *lines: str) -> None:
        """Add lines."""
        self._lines += lines

    def inputs(self, inputs: Sequence[Given]) -> str:
        """An expression for the inputs as a model takes them."""
        kind = self.space.kind
        if not kind.has_pictures:
            return repr([self.space.example(given) for given in inputs])
        given = [self._input(one) for one in inputs]
        if kind.is_mixed and any(isinstance(one, str) for one in inputs):
            self.use("isthmus.data.captioned", "Example")
        return f"[{', '.join(given)}]"

    def _input(self, given: Given) -> str:
        """A picture, or an example of a joint model with all its parts."""
        joint = self.space.kind.is_mixed
        if joint and not isinstance(given, str):
            self.read_corpus()
            return f"corpus.examples[{given.index}]"
        if isinstance(given, str) and joint and not is_address(given):
            return f"Example(caption={given!r})"
        self.use("isthmus.data.pictures", "read_one")
        reader = 'model.parts["picture"]' if joint else "model"
        fit = fit_of(self.space.model)
        read = f"read_one({name_of(self.space, given)!r}, {reader}.shape, {fit!r})"
        return f"Example(picture={read})" if joint else read

    def read_corpus(self) -> None:
        """Read the corpus of the map, once."""
        if any(line.startswith("corpus = ") for line in self._lines):
            return
        data = f"{self.space.data!r}"
        limit = f", limit={CORPUS}" if len(self.space.corpus) == CORPUS else ""
        if self.space.is_shipped:
            self.use("isthmus.studio.shipped", "bundle_corpus")
            self.say("corpus = bundle_corpus()")
        else:
            self.say(f"corpus = model.kind.read({data}, model.config.to_dict(){limit})")

    def generation(self, generation: Generation) -> str:
        """An expression for it: what differs from the defaults."""
        generation = for_texts(self.space.model, generation)
        default, parts = Generation(), []
        for name in Generation.__dataclass_fields__:
            value = getattr(generation, name)
            if value == getattr(default, name):
                continue
            if name == "penalty":
                self.use("isthmus.control.sampling", "Penalty")
                value = _Source(f"Penalty({value.strength!r}, {value.mode!r})")
            if name == "banned":
                self.use("isthmus.explore.walks", "unwritten")
                value = _Source("unwritten(model)")
            if name == "exempt":
                value = _Source('tuple(model.codec.ids("\\n"))')
            parts.append(f"{name}={value!r}")
        return f"isthmus.Generation({', '.join(parts)})"

    def decode(self, z: str, generation: Generation, labels: str = "") -> None:
        """Decode an expression for latents [N P], and show what comes out."""
        plain = for_texts(self.space.model, generation) == Generation()
        told = "" if plain else f", {self.generation(generation)}"
        if labels:
            self.use("isthmus.explore.walks", "decode_as")
            self.say(f"decoded = decode_as(model, {z}, {labels}{told})")
        else:
            self.say(f"decoded = model.decode({z}{told})")
        self.show("decoded")

    def show(self, what: str) -> None:
        """Print texts, or write pictures to a file."""
        if not self.space.kind.has_text:
            self.use("pathlib", "Path")
            self.use("isthmus.data.pictures", "write_grid")
            self.say(f'write_grid([{what}], Path("pictures.png"))')
        else:
            self.say(f'print(*{what}, sep="\\n")')

    def text(self, torch: bool = False) -> str:
        """The whole."""
        modules = ["import isthmus", *(["import torch"] if torch else [])]
        imports = [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self._imports.items())
        ]
        head = [*modules, *imports, "", f"model = isthmus.load({self.space.run!r})"]
        return "\n".join([*head, *self._lines]) + "\n"


@final
class _Source:
    """Python that stands for itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def words(space: Space, inputs: Sequence[Given]) -> list[str] | None:
    """Inputs as arguments of a verb; None where a shell or its parser would misread one."""
    # An argument names a picture or a caption, never an example with both.
    if space.kind.is_mixed and not all(isinstance(one, str) for one in inputs):
        return None
    given = [name_of(space, one) for one in inputs]
    if any(word.startswith("-") for word in given):
        return None
    # A caption that reads like DATA#PLACE would be taken for a picture.
    spoken = [one for one in inputs if space.kind.is_mixed and isinstance(one, str)]
    if any("#" in text or Path(text).is_file() for text in spoken if not is_address(text)):
        return None
    return given


def name_of(space: Space, given: Given) -> str:
    """An input as a verb calls it: a text, or a picture by the name of a file or by DATA#PLACE."""
    if not space.kind.has_pictures:
        text: str = space.example(given)
        return text
    if not isinstance(given, str):
        return space.called(given.index)
    # A picture from a browser has no name that a program could open.
    return "picture.png" if not space.kind.has_text or is_address(given) else given


def command(
    space: Space,
    verb: str,
    inputs: Sequence[str] | None,
    flags: Sequence[Any] = (),
    generation: Generation | None = None,
    sheet: bool = True,
) -> str | None:
    """A command line, None without its inputs.

    Arguments:
        space: the run.
        verb: of ``isthmus``.
        inputs: positional arguments after RUN.
        flags: options with their values, those of decoding excepted.
        generation: how texts are decoded.
        sheet: pictures go to a file that has to be named.
    """
    if inputs is None or space.run.startswith("-"):
        return None
    options = [str(flag) for flag in flags] + decoding_flags(generation)
    if not space.kind.has_text and sheet:
        options += ["--out", "pictures.png"]
    return shlex.join(["isthmus", verb, space.run, *inputs, *options])


def piped(
    space: Space,
    verb: str,
    inputs: Sequence[Given],
    flags: Sequence[Any] = (),
    generation: Generation | None = None,
) -> str | None:
    """A command line that reads texts from a pipe; None where they have no line each."""
    if space.kind.has_pictures and not all(_is_caption(space, given) for given in inputs):
        return None
    texts = [name_of(space, given) for given in inputs]
    line = command(space, verb, ["-"], flags, generation)
    if line is None or any("\n" in text for text in texts):
        return None
    return f"printf '%s\\n' {shlex.join(texts)} | {line}"


def _is_caption(space: Space, given: Given) -> bool:
    return space.kind.is_mixed and isinstance(given, str) and not is_address(given)


def decoding_flags(generation: Generation | None, nucleus: bool = False) -> list[str]:
    """Options of a verb for what differs from its defaults.

    Arguments:
        generation: how texts are decoded; None has no options.
        nucleus: the verb is ``generate``, which samples with top-p 0.95 unless it is told.
    """
    if generation is None:
        return []
    default = Generation(sample=True, top_p=0.95) if nucleus else Generation()
    flags = []
    for name in ("temperature", "top_k", "top_p", "beams", "max_new_tokens", "seed"):
        value = getattr(generation, name)
        if value != getattr(default, name):
            flags += [f"--{name.replace('_', '-')}", str(value)]
    if generation.sample != default.sample:
        flags.append("--sample" if generation.sample else "--no-sample")
    for name in ("label", "against"):
        if (value := getattr(generation, name)) is not None:
            flags += [f"--{name}", value]
    if generation.guidance != 1:
        flags += ["--guidance", str(generation.guidance)]
    if generation.penalty != Penalty():
        flags += ["--penalty", str(generation.penalty.strength)]
        flags += ["--penalty-mode", generation.penalty.mode]
    return flags
