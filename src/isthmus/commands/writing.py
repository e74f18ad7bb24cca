"""What the verbs share that write texts or sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from isthmus.commands.common import WithDecoder, check_can_write, emit, kind_of_run, rows
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.base import LatentModel
    from isthmus.models.generation import Generation

COLUMNS = 16
"""Pictures in a row of a sheet."""


@dataclass(frozen=True)
class Decoding:
    """How to decode text: greedily, or as these settings say."""

    sample: bool = False
    """Sample tokens instead of taking the most probable one."""
    temperature: float = 1.0
    """Temperature of sampling, > 0."""
    top_k: int = 0
    """N: sample only from the N most probable tokens; 0 for all."""
    top_p: float = 1.0
    """Sample only from the smallest set of tokens with this total probability (nucleus)."""
    beams: int = 1
    """Width of beam search."""
    max_new_tokens: int = 64
    """Stop after this many tokens."""
    label: str = ""
    """Write texts with this label (a run with labels).
    By default the most probable label of the original; a sample's label is drawn from p(y)."""
    guidance: float = 1.0
    """γ, which amplifies the difference between predictions under --label and --against.
    1 for no guidance."""
    against: str = ""
    """The label to move away from.
    By default the label of the original.
    If there is no original, the null code (a run with --data.code-dropout)."""
    guidance_top_p: float = 1.0
    """With guidance, write only tokens in this nucleus of the label's own distribution."""
    penalty: float = 1.0
    """θ > 1 makes tokens that the text already contains less probable (Keskar et al. 2019)."""
    penalty_mode: Literal["transformers", "paper", "additive"] = "transformers"
    """How to apply the penalty; docs/control.md explains it."""
    penalise_prompt: bool = True
    """Count the tokens of the prompt as tokens that the text contains."""

    def settings(self, seed: int = 0, part: str = "") -> Generation:
        """These settings as a model takes them."""
        from isthmus.control.sampling import Penalty
        from isthmus.models.generation import Generation

        return Generation(
            self.max_new_tokens,
            self.sample,
            self.temperature,
            self.top_k,
            self.top_p,
            self.beams,
            seed,
            self.label or None,
            guidance=self.guidance,
            against=self.against or None,
            guidance_top_p=self.guidance_top_p,
            penalty=Penalty(self.penalty, self.penalty_mode, self.penalise_prompt),
            part=part,
        )


GREEDY = Decoding()


@dataclass(frozen=True, kw_only=True)
class Writing(WithDecoder):
    """A verb that decodes texts, or pictures onto a sheet."""

    out: str = ""
    """A .png file for the pictures (a run with pictures)."""
    json: bool = False
    """Print JSON Lines."""
    seed: int = 0
    """Seed of all random draws."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = GREEDY

    def prepared(self) -> tuple[Path | None, Generation]:
        """The file of the sheet, None to print texts, and how to decode."""
        target = sheet(self.run_directory, self.out)
        part = ""
        if kind_of_run(self.run_directory).is_mixed:
            part = "caption" if target is None else "picture"
        return target, self.decoding.settings(self.seed, part)

    def write(
        self,
        target: Path | None,
        made: Sequence[Any],
        plain: str = "{text}",
        **columns: Sequence[Any],
    ) -> None:
        """Write pictures to a sheet, or texts to standard output.

        Args:
            target: The sheet; None for texts.
            made: The texts or pictures.
            plain: Format of a line without --json.
            columns: What a record holds before its text: name → a value for each text.
        """
        if target is not None:
            write_sheet(made, target)
            return
        emit(rows({**columns, "text": made}), self.json, plain)


def sheet(run: str, out: str) -> Path | None:
    """Where to write a sheet of pictures; None to print texts.

    If a run can write both, --out decides.

    Raises:
        IsthmusError: Pictures and no .png to write them to, or texts and a .png.
    """
    kind = kind_of_run(run)
    if out and not kind.has_pictures:
        raise IsthmusError("--out: is for pictures; texts go to standard output")
    return png(out) if out or not kind.has_text else None


def png(out: str) -> Path:
    """A .png file that can be written, checked before the work."""
    if not out.endswith(".png"):
        got = f"got {out}" if out else "got none"
        raise IsthmusError(f"--out: pictures need the name of a .png file to go to, {got}")
    return check_can_write(out)


def given(model: LatentModel, words: Sequence[str]) -> list[Any]:
    """The examples that arguments name, as the model takes them."""
    config = model.config.to_dict()
    return [model.kind.named(word, config) for word in words]


def write_sheet(examples: Sequence[Any], target: Path, above: Sequence[Any] = ()) -> None:
    """Write the pictures of examples in rows, blank paper where an example has none.

    Args:
        examples: Pictures, or examples with several parts.
        target: The file.
        above: None, or as many; each row of them goes above its row of examples.
    """
    import numpy as np

    from isthmus.data.captioned import Example
    from isthmus.data.pictures import PAPER, write_grid

    parts = [[Example.of(one).picture for one in part] for part in (above, examples)]
    shape = next((one.shape for part in parts for one in part if one is not None), (1, 1, 1))
    paper = np.full(shape, PAPER, dtype=np.uint8)
    rows = [
        [paper if one is None else one for one in part[start : start + COLUMNS]]
        for start in range(0, len(examples), COLUMNS)
        for part in parts
        if part
    ]
    write_grid(rows, target)
