"""The package as a whole: light to import, its modules in layers, its public names."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
import zlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import isthmus

SOURCE = Path(isthmus.__file__).parent

LAYERS = [
    "errors",
    "progress",
    "latent",
    "settings",
    "data",
    "control",
    "models",
    "runs",
    "explore",
    "evaluation",
    "training",
    "published",
    "signs",
    "bench",
    "api",
    "sklearn",
    "studio",
    "commands",
    "cli",
]
"""From the ground up: a module imports from its own layer and from those before it."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=True)


def processor_seconds(*arguments: str) -> float:
    """Best of three, in processor time: a busy machine makes nothing slower."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def test_import_is_light():
    assert processor_seconds(sys.executable, "-c", "import isthmus") < 0.3
    heavy = ("torch", "transformers", "datasets", "numpy", "matplotlib", "tyro")
    loaded = run(sys.executable, "-c", "import isthmus, sys; print(*sys.modules)").stdout.split()
    assert not set(heavy) & set(loaded)


def test_help_is_light():
    command = str(Path(sys.executable).parent / "isthmus")
    assert processor_seconds(command, "--help") < 0.5
    usage = run(command, "--help").stdout
    assert usage.startswith("usage: isthmus VERB")
    for verb in ("train", "evaluate", "encode", "decode", "interpolate", "analogy", "cluster"):
        assert f"\n  {verb} " in usage


def test_the_wheel_is_small():
    """It has every file of the package but Python's own caches, each compressed as in a zip."""
    files = [p for p in SOURCE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    size = sum(len(zlib.compress(path.read_bytes())) for path in files)
    assert 1e6 < size <= 6e6


def test_public_names():
    assert set(isthmus.__all__) <= set(dir(isthmus))
    for name in isthmus.__all__:
        assert getattr(isthmus, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = isthmus.laod
    assert (SOURCE / "py.typed").is_file()


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or
                  not path.stem.startswith("__"))  # fmt: skip


def imported(path: Path) -> set[str]:
    """Full names of what a file imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    """The part of the package, for example models, that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_part_of_the_package_has_its_layer():
    assert {part_of(path) for path in modules()} == set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_go_one_way(path):
    allowed = {*LAYERS[: LAYERS.index(part_of(path)) + 1], "__version__"}
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("isthmus.")}
    assert parts <= allowed, f"{path.name} imports {parts - allowed} from above it"


def test_no_file_imports_itself_through_others():
    """Imports inside functions and under TYPE_CHECKING count as well."""
    names = {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in modules()
    }
    graph = {
        name: {
            module
            for one in imported(path)
            if (module := one if one in names else one.rpartition(".")[0]) in names
        }
        - {name}
        for name, path in names.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", sorted((SOURCE / "latent").glob("*.py")), ids=lambda p: p.name)
def test_latent_needs_torch_alone(path):
    others = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)
    assert others <= {"torch", "numpy", "isthmus", "zuko"}
    at_top = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    assert not any((node.module or "").startswith("zuko") for node in at_top)


def test_no_part_imports_pickle():
    for path in modules():
        assert not {name.split(".")[0] for name in imported(path)} & {"pickle", "dill", "joblib"}
