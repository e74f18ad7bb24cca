"""What a run shows while it trains: on the terminal and in a JSON Lines file."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, final

from rich import progress as bars
from rich.console import Console

Progress = Callable[[int], None]
"""Called with the number of examples just done."""

_EVERY_SECONDS = 10.0
"""Seconds between two lines where standard error is no terminal."""


def no_progress(done: int) -> None:
    """Report nothing."""


def is_first_process() -> bool:
    """Whether this process prints and writes for all that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def quiet() -> None:
    """Silence the libraries; the package's own warnings stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.set_verbosity_error()  # it reports each of six attempts in two lines
    warnings.simplefilter("ignore", FutureWarning)  # peft and transformers about each other


def console() -> Console:
    """Standard error; results go to standard output."""
    # No markup and no emoji codes: a file called a[b].txt or :cat: must come out as it is. No
    # wrapping: a log has long lines.
    return Console(
        stderr=True,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        quiet=not is_first_process(),
    )


def bar(out: Console) -> bars.Progress:
    """A progress bar with the time left, gone when done; only in a terminal or a notebook."""
    return (_InNotebook if out.is_jupyter and not out.quiet else bars.Progress)(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )


@final
class _InNotebook(bars.Progress):
    """A bar of HTML under the cell: rich's own would need a package of widgets there."""

    EVERY_SECONDS = 0.25

    def start(self) -> None:
        from IPython.display import display

        self.next_time = 0.0
        self.shown = display({"text/html": ""}, raw=True, display_id=True)

    def stop(self) -> None:
        self.shown.update({"text/html": ""}, raw=True)

    def update(self, *given: Any, **named: Any) -> None:
        super().update(*given, **named)
        self._show()

    def advance(self, *given: Any, **named: Any) -> None:
        super().advance(*given, **named)
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now >= self.next_time:
            self.next_time = now + self.EVERY_SECONDS
            page = "".join(map(_bar_html, self.tasks))
            self.shown.update({"text/html": page}, raw=True)


def _bar_html(task: bars.Task) -> str:
    total, left = task.total or 1, task.time_remaining
    words = [task.description, f"{task.completed:,.0f} of {total:,.0f}", task.fields["note"]]
    words += [] if left is None else [f"{left:.0f} s left"]
    style = "width: 16em; vertical-align: middle"
    element = f'<progress style="{style}" value="{task.completed}" max="{total}"></progress>'
    return f"<div>{element} {escape(' · '.join(filter(None, words)))}</div>"


@final
class Lines:
    """Progress where there is no bar: a line every ten seconds, with the time left."""

    def __init__(self, out: Console, done: int = 0) -> None:
        self.out, self.before = out, done
        self.started = time.monotonic()
        self.next_line = self.started + _EVERY_SECONDS

    def print(self, what: str, done: int, total: int) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        if self.out.is_terminal or self.out.is_jupyter or now < self.next_line:
            return
        self.next_line = now + _EVERY_SECONDS
        left = (now - self.started) / max(1, done - self.before) * (total - done)
        self.out.print(f"{what}  {left:.0f} s left")


@contextmanager
def counting(out: Console, what: str, total: int) -> Iterator[Progress]:
    """Show the progress of some work; call the function it yields with the number just done."""
    lines, done = Lines(out), 0
    with bar(out) as progress:
        task = progress.add_task(what, total=total, note="")

        def advance(more: int) -> None:
            nonlocal done
            done += more
            progress.advance(task, more)
            lines.print(f"{what} {done:,} of {total:,}", done, total)

        yield advance


@final
class JsonLinesLog:
    """``log.jsonl`` of a run, one object per line; resuming removes the lines of lost steps.

    The last line, about the whole run, is written again as well. Only the first of several
    processes makes a log.
    """

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        kept = []
        if resume_step and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut short
                    continue
                if record["step"] <= resume_step and "train_runtime" not in record:
                    kept.append(line + "\n")
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text("".join(kept), encoding="utf-8")
        unfinished.replace(path)  # a kill must not lose the lines before the checkpoint

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
