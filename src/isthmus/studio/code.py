"""Python and commands that reproduce an answer of the studio."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, final

from isthmus.control.sampling import Penalty
from isthmus.models.generation import Generation
from isthmus.studio.bodies import Index
from isthmus.studio.examples import fit_of, for_texts
from isthmus.studio.limits import CORPUS, is_address
from isthmus.studio.space import Space

Given = str | Index

MODULES: Final = {
    "pathlib": {"Path"},
    "isthmus.commands.optimise": {"imported"},
    "isthmus.control.sampling": {"Penalty"},
    "isthmus.data.captioned": {"Example"},
    "isthmus.data.pictures": {"read_one", "write_grid"},
    "isthmus.evaluation.attribution": {"attribute", "attribute_tokens"},
    "isthmus.evaluation.meaning": {"find_encoder"},
    "isthmus.evaluation.walkability": {"walkability"},
    "isthmus.evaluation.walking": {"Extent", "walked"},
    "isthmus.explore.codebook": {"codebook"},
    "isthmus.explore": {
        "between",
        "decode_as",
        "labels_between",
        "likely_labels",
        "losses_under",
        "mixture_of",
        "neighbours",
        "unwritten",
        "walk_sentences",
        "without_details",
    },
    "isthmus.studio.projections": {"tsne"},
    "isthmus.studio.shipped": {"bundle_corpus"},
}
"""Where the names are from that a script may use."""


@final
class Script:
    """Python that reproduces an answer, written line by line.

    Args:
        space: The run that it opens.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._lines = [f"model = isthmus.load({space.run!r})"]

    def say(self, *lines: str) -> None:
        """Add lines."""
        self._lines += lines

    def inputs(self, inputs: Sequence[Given]) -> str:
        """An expression for a list of inputs, each as the model reads it."""
        return f"[{', '.join(self._input(one) for one in inputs)}]"

    def _input(self, given: Given) -> str:
        kind = self.space.kind
        if not kind.has_pictures:
            return repr(self.space.example(given))
        if kind.is_mixed and not isinstance(given, str):
            self.read_corpus()
            return f"corpus.examples[{given.index}]"
        if isinstance(given, str) and kind.is_mixed and not is_address(given):
            return f"Example(caption={given!r})"
        reader = 'model.parts["picture"]' if kind.is_mixed else "model"
        fit = fit_of(self.space.model)
        read = f"read_one({name_of(self.space, given)!r}, {reader}.shape, {fit!r})"
        return f"Example(picture={read})" if kind.is_mixed else read

    def read_corpus(self) -> None:
        """Read the corpus of the map, once."""
        if any(line.startswith("corpus = ") for line in self._lines):
            return
        limit = f", limit={CORPUS}" if len(self.space.corpus) == CORPUS else ""
        if self.space.is_shipped:
            self.say("corpus = bundle_corpus()")
        else:
            data = f"{self.space.data!r}, model.config.to_dict(){limit}"
            self.say(f"corpus = model.kind.read({data})")

    @property
    def about(self) -> str:
        """What cuts the summary out of an expression for latents [N K P], if there is one."""
        summary = self.space.model.config.summary
        return f"[:, :{summary}]" if summary else ""

    def generation(self, generation: Generation) -> str:
        """An expression that names only what differs from the defaults."""
        generation, default = for_texts(self.space.model, generation), Generation()
        special = {"banned": "unwritten(model)", "exempt": r'tuple(model.codec.ids("\n"))'}
        parts = [
            f"{name}={special.get(name, repr(getattr(generation, name)))}"
            for name in (field.name for field in fields(Generation))
            if getattr(generation, name) != getattr(default, name)
        ]
        return f"isthmus.Generation({', '.join(parts)})"

    def decoding(self, generation: Generation) -> str:
        """A keyword argument for a call that decodes; empty if all are defaults."""
        if for_texts(self.space.model, generation) == Generation():
            return ""
        return f", generation={self.generation(generation)}"

    def decode(self, z: str, generation: Generation, labels: str = "") -> None:
        """Decode an expression for latents [N P], and show the result.

        Args:
            z: The latents.
            generation: How texts are decoded.
            labels: An expression for their labels, if the decoder reads some.
        """
        call = f"decode_as(model, {z}, {labels}" if labels else f"model.decode({z}"
        self.say(f"decoded = {call}{self.decoding(generation)})")
        self.show("decoded")

    def show(self, what: str) -> None:
        """Print texts, or write pictures to a file."""
        if self.space.kind.has_text:
            self.say(f'print(*{what}, sep="\\n")')
        else:
            self.say(f'write_grid([{what}], Path("pictures.png"))')

    def text(self) -> str:
        """The whole script, with the imports that it needs."""
        body = "\n".join(self._lines)
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        head = ["import isthmus", *(["import torch"] if "torch" in used else [])]
        for module, names in MODULES.items():
            if found := sorted(used & names):
                head.append(f"from {module} import {', '.join(found)}")
        return "\n".join([*head, "", body]) + "\n"


def words(space: Space, inputs: Sequence[Given]) -> list[str] | None:
    """Inputs as arguments of a command; None if the shell or the command would misread one."""
    # An argument is a picture or a caption, never an example with both.
    if space.kind.is_mixed and not all(isinstance(one, str) for one in inputs):
        return None
    given = [name_of(space, one) for one in inputs]
    if any(word.startswith("-") for word in given):
        return None
    # A caption that reads like DATA#PLACE would be taken for a picture.
    captions = [name_of(space, one) for one in inputs if _is_caption(space, one)]
    if any("#" in text or Path(text).is_file() for text in captions):
        return None
    return given


def name_of(space: Space, given: Given) -> str:
    """An input on the command line: a text, or a picture as a file name or as DATA#PLACE."""
    if not space.kind.has_pictures:
        text: str = space.example(given)
        return text
    if not isinstance(given, str):
        return space.picture_name(given.index)
    # A picture from a browser has no name that a program could open.
    return "picture.png" if not space.kind.has_text or is_address(given) else given


def command(
    space: Space,
    verb: str,
    inputs: Sequence[str] | None,
    flags: Sequence[Any] = (),
    generation: Generation | None = None,
    writes: bool = True,
) -> str | None:
    """A command line; None without inputs.

    Args:
        space: The run.
        verb: The command of ``isthmus``.
        inputs: Positional arguments after RUN.
        flags: Options with their values, except those of decoding.
        generation: How texts are decoded.
        writes: Whether it writes pictures to a file, which has to be named.
    """
    if inputs is None or space.run.startswith("-"):
        return None
    options = [str(flag) for flag in flags] + decoding_flags(generation)
    if writes and not space.kind.has_text:
        options += ["--out", "pictures.png"]
    return shlex.join(["isthmus", verb, space.run, *inputs, *options])


def piped(
    space: Space,
    verb: str,
    inputs: Sequence[Given],
    flags: Sequence[Any] = (),
    generation: Generation | None = None,
) -> str | None:
    """A command line that reads texts from a pipe; None unless each input is one line of text."""
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
    """Options of a command for what differs from its defaults.

    Args:
        generation: How texts are decoded; None for no options.
        nucleus: The command is ``generate``, which by default samples with top-p 0.95.
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
