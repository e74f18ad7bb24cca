"""``isthmus train``."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import tyro

from isthmus.commands.common import Command, Data, check_on, console, quiet
from isthmus.commands.train_help import train_help
from isthmus.data.choice import TYPICAL
from isthmus.data.files import formats
from isthmus.errors import IsthmusError
from isthmus.settings import Settings, change_kind, load_recipe, why_unknown
from isthmus.settings.trackers import Tracker, check_trackers

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.data.kind import Splits

DATA_HELP = (
    f"A {formats()} file, with or without .gz or .zst; a folder with train/valid/test files (or "
    'numbered files, train_1.txt …, or folders of files); "scenes"; or a Hugging Face dataset '
    "name. A table has a header with the columns text and, if there are labels, label; without a "
    "header the label comes first.\n"
    "For pictures: a folder of pictures (sub-folders are labels), an .npz file, "
    '"digits" or "scenes".\n'
    "For pictures with captions: a folder of pictures with a captions.tsv (FILE TAB CAPTION, "
    "optionally TAB LABEL; no FILE for a caption without a picture), an .npz file with captions, "
    'or "scenes".'
)


@dataclass(frozen=True)
class Train(Command):
    """Train a model with a latent space on texts or pictures, and measure it.

    Without a recipe, settings are chosen for the data, for this machine and for ten minutes; the
    command says what it chose and why. Flags override the choice, or the recipe. To continue a run
    that was stopped, repeat the command with --resume.
    """

    data: Annotated[Data, tyro.conf.arg(metavar="DATA", help=DATA_HELP)]
    out: str
    """The run directory to create."""
    recipe: str = ""
    """A recipe that comes with Isthmus, or a .toml file."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    report_to: tuple[Tracker, ...] = ()
    """Also report to experiment trackers: wandb, mlflow, trackio, tensorboard (into the run)."""
    on: str = ""
    """Where to train: ray for a process on each core (or GPU) of this machine, ray:ADDRESS for a
    Ray cluster that runs. By default this process, or those of torchrun."""
    processes: int = 0
    """How many processes --on starts; 0 for one on each core (or GPU)."""
    settings: Annotated[tyro.conf.AvoidSubcommands[Settings], tyro.conf.arg(name="")] = field(
        default_factory=Settings
    )
    given: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The flags among the arguments, by their names with underscores."""

    @classmethod
    def in_full(cls, words: list[str]) -> list[str]:
        """``--minutes`` is ``--train.minutes``, ``--embeddings`` is ``--data.embeddings``."""
        words = [re.sub(r"^--(?=minutes(=|$))", "--train.", word) for word in words]
        return [re.sub(r"^--(?=embeddings(=|$))", "--data.", word) for word in words]

    @classmethod
    def starting_point(cls, words: list[str]) -> Self:
        """The settings of ``--recipe``, for the kind of model that ``--model.kind`` names."""
        given = _flags(words)
        recipe = given.get("recipe", "")
        settings = load_recipe(recipe) if "recipe" in given else TYPICAL
        if kind := given.get("model.kind"):
            settings = change_kind(settings, kind)
        for name, value in given.items():
            if why := why_unknown(name.replace(".no_", "."), settings.model.kind, value):
                raise IsthmusError(f"--{name.replace('_', '-')}: {why}")
        settings = _with_options(settings, given)
        if "help" in given or "-h" in words:
            print(train_help(cls, DATA_HELP, settings, recipe), end="")
            raise SystemExit
        return cls(tyro.MISSING, tyro.MISSING, settings=settings, given=tuple(given))

    def run(self) -> None:
        began, out = time.monotonic(), console()
        check_trackers(self.report_to)
        check_on(self.on)
        if self.on:
            self._on_ray()
            return
        if self.processes:
            raise IsthmusError(
                f"--processes: got {self.processes} without --on, which starts them; add --on ray"
            )
        settings, splits = self._settled(out)
        out.print(splits.report(), markup=False)
        if len(splits.train) < 2:
            raise IsthmusError(
                f"{self.data}: training needs at least 2 {splits.train.kind.unit}s after some are "
                f"held out for validation, got {len(splits.train)}"
            )
        quiet()
        from isthmus.commands.startup import importing
        from isthmus.progress import is_first_process
        from isthmus.runs.card import metric_rows

        with importing():
            from accelerate import PartialState

            from isthmus.training.clock import Clock
            from isthmus.training.run import train

        clock = Clock(settings.train.minutes, settings.train.fit_prior, began)
        folder = Path(self.out)
        train(
            settings,
            splits,
            folder,
            resume=self.resume,
            console=out,
            clock=clock,
            report_to=self.report_to,
        )
        PartialState().destroy_process_group()  # of torchrun, if any
        if not is_first_process():
            return
        from isthmus.runs.bundle import read_run

        rows = metric_rows(read_run(self.out)["metrics"])
        first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
        for name, value, unit in rows:
            print(f"{name:<{first}}  {value:>{second}}  {unit}".rstrip())

    def _on_ray(self) -> None:
        """Run this command in the processes of a cluster."""
        from isthmus.commands.train_on_ray import train_on_ray

        alone = replace(self, on="", processes=0)
        train_on_ray(alone.run, Path(self.out).absolute(), self.on, self.processes)

    def _settled(self, out: Console) -> tuple[Settings, Splits[Any]]:
        """The settings and the data that they read."""
        from isthmus.data.kinds import of_data, of_settings

        if self.recipe:
            self._check_sources()
            return self.settings, of_settings(self.settings).read_splits(self.data, self.settings)
        quiet()
        from isthmus.training.defaults import without_recipe

        return without_recipe(
            of_data(self.data),
            lambda settings: of_settings(settings).read_splits(self.data, settings),
            _changes(self.settings, self.given),
            lambda line: out.print(line, markup=False),
            Path(self.out) if self.resume else None,
        )

    def _check_sources(self) -> None:
        """Refuse a model source before the data are read; without one, import nothing for it."""
        parts = (getattr(self.settings.model, role, None) for role in ("encoder", "decoder"))
        if not any(getattr(part, "source", "") for part in parts):
            return
        quiet()
        from isthmus.commands.startup import importing

        with importing():
            from isthmus.models.stock import check_sources
        check_sources(self.settings)


def _changes(settings: Settings, given: Sequence[str]) -> dict[str, Any]:
    """The settings that flags have changed, nested."""
    changes: dict[str, Any] = {}
    values = dataclasses.asdict(settings)
    for name in given:
        *groups, last = name.replace(".no_", ".").split(".")
        if groups:
            inner, value = changes, values
            for group in groups:
                inner, value = inner.setdefault(group, {}), value[group]
            inner[last] = value[last]
    return changes


def _with_options(settings: Settings, given: dict[str, str]) -> Settings:
    """Settings whose options are those that the architectures have and those that flags name."""
    changes: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        match name.split("."):
            case ["model", part, "architecture"]:
                changes.setdefault(part, {})["architecture"] = value
            case ["model", part, "options", option]:
                changes.setdefault(part, {}).setdefault("options", {})[option] = _plain(value)
    if not changes:
        return settings
    from isthmus.models.stock import with_own_options

    return with_own_options(settings, changes)


def _plain(word: str) -> int | float | bool | str:
    """The value of an option; one without a value is a switch."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word if word and not word.startswith("--") else False


def _flags(words: list[str]) -> dict[str, str]:
    """Flags among the words of a command, by their names with underscores, and their values."""
    flags = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flags[name.replace("-", "_")] = value if equals else following
    return flags
