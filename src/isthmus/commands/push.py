"""``isthmus push``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from isthmus.commands.common import Command, RunDirectory


@dataclass(frozen=True, kw_only=True)
class Push(Command):
    """Put a run on the Hugging Face hub: the files of the run, and nothing else.

    Every command that takes RUN then takes owner/name, too. Needs a token of yours: hf auth login
    keeps one, or set HF_TOKEN. A repository that has no Isthmus run is left alone.
    """

    run_directory: RunDirectory
    """A run directory."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    """The repository; made if there is none."""
    private: bool = False
    """Make a repository that only its owner sees."""
    license: str = ""
    """The licence, for the card, as the hub abbreviates it: apache-2.0, mit, …"""
    language: tuple[str, ...] = ()
    """The languages of the texts, for the card: en, de, …"""

    def run(self) -> None:
        from isthmus.runs.push import push

        print(
            push(
                self.run_directory,
                self.name,
                private=self.private,
                licence=self.license,
                languages=self.language,
            )
        )
