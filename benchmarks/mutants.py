"""Mutation testing: plant known faults in the mathematics one at a time, and see a test fail.

    python benchmarks/mutants.py                # what is not yet known; results/mutants.{json,md}
    python benchmarks/mutants.py kl-without-half slerp-    # by the beginnings of their names, anew

``mutants.toml`` holds the faults: a file of the package, a text that occurs once in it, the text
in its place, what that would do, and the tests that should notice, as arguments of pytest. Each is
planted in a copy of ``src``, never in the working tree. A mutant is *killed* if a test fails and
*survives* if all pass; anything else is an error of the list. Results are kept with a hash of
what they depend on: the mutant, its file and its tests. The tests that killed have to pass on the
copy without a fault.

One process imports torch and transformers, and forks for every mutant.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import py_compile
import shlex
import shutil
import signal
import sys
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
RESULTS = Path(__file__).parent / "results"
SECONDS = 240
"""Limit for the tests of one mutant."""
OUTCOMES = {0: "survived", 1: "killed", 2: "error: not imported", 5: "error: no such test"}
"""Of pytest's exit codes."""


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Args:
        name: Says what is wrong.
        file: In the package.
        old: A text that occurs once in the file.
        new: What stands there instead.
        why: What it would do to a user.
        tests: That should notice: files below ``tests/``, and options of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: str

    @property
    def arguments(self) -> list[str]:
        """For pytest."""
        parts = shlex.split(self.tests)
        return [str(ROOT / "tests" / part) if ".py" in part else part for part in parts]

    def whole(self) -> str:
        """The file without the fault."""
        return (ROOT / "src" / "isthmus" / self.file).read_text(encoding="utf-8")

    def misplaced(self) -> str:
        """What is wrong with its place, if anything."""
        count = self.whole().count(self.old)
        return (
            ""
            if count == 1
            else f"{self.name}: its text is in {self.file} {count} times, not once"
        )

    def planted(self) -> str:
        """The file with the fault."""
        return self.whole().replace(self.old, self.new)

    def hash(self) -> str:
        """Of all that the row depends on: the fault, its file and its tests."""
        tests = [part.partition("::")[0] for part in self.arguments if ".py" in part]
        found = [json.dumps(asdict(self)), self.planted()]
        found += [Path(path).read_text(encoding="utf-8") for path in tests]
        return hashlib.sha256("\0".join(found).encode()).hexdigest()[:16]


class FirstFailure:
    """Notes the first test that fails, and how."""

    name = ""
    how = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid
            crash = getattr(report.longrepr, "reprcrash", None)
            self.how = crash.message.partition("\n")[0][:100] if crash else ""


def mutants() -> list[Mutant]:
    """All of the list, in its order."""
    with LIST.open("rb") as file:
        return [Mutant(name, **rest) for name, rest in tomllib.load(file).items()]


def warm_up() -> None:
    """Import what all tests need, and nothing of the package."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    import datasets
    import hypothesis
    import sklearn.cluster
    import sklearn.linear_model
    import sklearn.mixture
    import torch
    import transformers

    for name in ("bert", "gpt2", "t5", "bart", "llama", "auto"):
        getattr(transformers.models, name)
    assert transformers.Trainer
    assert datasets.Dataset
    assert sklearn.cluster.KMeans
    torch.set_num_threads(1)
    # The same examples in every run, none remembered, and no search for a simpler one.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, phases=phases, deadline=None
    )
    hypothesis.settings.load_profile("mutants")


def forked(source: Path, arguments: Sequence[str]) -> tuple[str, str, str]:
    """Outcome, first failed test with its error, and output of pytest on a copy of the package."""
    output, failure = source / "output", source / "failure"
    child = os.fork()
    if child == 0:
        _test(source, arguments, output, failure)
    deadline = time.monotonic() + SECONDS
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"error: no end within {SECONDS} s", "", output.read_text(encoding="utf-8")
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    text = output.read_text(encoding="utf-8", errors="replace")
    return OUTCOMES.get(code, f"error: exit code {code}"), failure.read_text("utf-8"), text


def _test(source: Path, arguments: Sequence[str], output: Path, failure: Path) -> None:
    """In the child: run pytest on that copy, and exit."""
    code = 3
    try:
        os.setsid()
        failure.write_text("")
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.chdir(ROOT)
        sys.path.insert(0, str(source / "src"))
        os.environ["PYTHONPATH"] = str(source / "src")
        import pytest

        import isthmus

        assert Path(isthmus.__file__).is_relative_to(source)
        first = FirstFailure()
        options = ["-x", "-q", "--no-header", "--durations=0", "-p", "no:cacheprovider"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported
        options += ["--basetemp", str(source / "tmp"), "--rootdir", str(ROOT)]
        code = int(pytest.main([*options, *arguments], plugins=[first]))
        failure.write_text(f"{first.name}\n{first.how}", "utf-8")
    except BaseException:
        traceback.print_exc()
        code = 3
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Copy:
    """A copy of ``src`` to plant faults in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "src" / "isthmus"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src" / "isthmus", self.package, ignore=ignored)
        # Compiled by content: a fault of the same length within the same second must be seen.
        compileall.compile_dir(
            self.package, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )

    def tested(self, mutant: Mutant) -> dict[str, Any]:
        """The row of a mutant."""
        path = self.package / mutant.file
        whole = path.read_text(encoding="utf-8")
        found = mutant.hash()
        started = time.monotonic()
        path.write_text(mutant.planted(), encoding="utf-8")
        try:
            outcome, failure, output = forked(self.folder, mutant.arguments)
        finally:
            path.write_text(whole, encoding="utf-8")
        seconds = round(time.monotonic() - started, 1)
        test, _, how = failure.partition("\n")
        if outcome.startswith("error"):
            print(output[-3000:])
        return {
            "name": mutant.name,
            "file": mutant.file,
            "outcome": outcome,
            "killed_by": test.removeprefix("tests/"),
            "how": how,
            "seconds": seconds,
            "hash": found,
        }

    def unharmed(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Whether the tests that killed pass without a fault."""
        names = sorted({row["killed_by"] for row in rows if row["killed_by"]})
        outcome, failure, output = forked(self.folder, [str(ROOT / "tests" / n) for n in names])
        if outcome != "survived":
            print(output[-3000:])
            print(f"without a fault: {outcome} {failure}")
        return outcome == "survived"


def kept() -> dict[str, dict[str, Any]]:
    """The rows of earlier runs by name."""
    path = RESULTS / "mutants.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return {row["name"]: row for row in rows}


def save(rows: Sequence[dict[str, Any]], **more: Any) -> None:
    """Write the result file, whole or not at all."""
    unfinished = RESULTS / "mutants.unfinished"
    unfinished.write_text(json.dumps({**more, "rows": rows}, indent=1) + "\n", "utf-8")
    unfinished.replace(RESULTS / "mutants.json")


def run(every: Sequence[Mutant], anew: Callable[[Mutant], bool]) -> list[dict[str, Any]]:
    """Test what is not known yet; the rows of all mutants that are, in the order of the list."""
    rows = kept()
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder).resolve())
        for mutant in every:
            before = rows.get(mutant.name, {"hash": "", "outcome": ""})
            known = before["hash"] == mutant.hash() and "error" not in before["outcome"]
            if not anew(mutant) and (known or sys.argv[1:]):
                continue
            row = rows[mutant.name] = copy.tested(mutant)
            print(f"{row['outcome']:10} {row['seconds']:6.1f} s  {row['name']}", flush=True)
            print(f"{'':21}{row['killed_by']}", flush=True)
            save([rows[one.name] for one in every if one.name in rows])
        found = [rows[one.name] for one in every if one.name in rows]
        if not sys.argv[1:] and not copy.unharmed(found):
            raise SystemExit("the tests fail without a fault: the rows say nothing")
    return found


def table(every: Sequence[Mutant], rows: Sequence[dict[str, Any]]) -> str:
    """The result as Markdown."""
    counts = Counter(row["outcome"] for row in rows)
    found = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    head = ["file", "fault", "what it would do", "outcome", "first test that fails"]
    lines = [f"# {len(rows)} faults, planted one at a time: {found}", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for mutant, row in zip(every, rows, strict=True):
        cells = [mutant.file, mutant.name, mutant.why, row["outcome"], row["killed_by"]]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    every = mutants()
    if wrong := [line for one in every if (line := one.misplaced())]:
        raise SystemExit("\n".join(wrong))
    warm_up()
    asked = tuple(sys.argv[1:])
    rows = run(every, lambda mutant: mutant.name.startswith(asked) if asked else False)
    print(dict(Counter(row["outcome"] for row in rows)))
    if len(rows) == len(every) and not asked:
        from isthmus.bench.measure import circumstances

        save(rows, circumstances=circumstances())
        (RESULTS / "mutants.md").write_text(table(every, rows), encoding="utf-8")
    sys.exit(any(row["outcome"] != "killed" for row in rows))


if __name__ == "__main__":
    main()
