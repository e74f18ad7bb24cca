"""Runs on the Hugging Face hub: ``owner/name`` instead of a folder, fetched aloud.

A folder on disk goes first. Of a repository only the files that its ``run.json`` lists are
fetched, none of which may hold a pickle or code.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from isthmus.errors import IsthmusError, reason_of
from isthmus.runs.folders import RUN_FILE

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ENDINGS: Final = (".json", ".safetensors", ".txt", ".model", ".jinja", ".md")
"""Of the files that a run can have."""
_LOG_IN: Final = "log in with: hf auth login, or set HF_TOKEN"

_log = logging.getLogger(__name__)


def is_name(run: str | Path) -> bool:
    """Whether it can be the name of a repository, ``owner/name``."""
    return _NAME.fullmatch(str(run)) is not None


def local(run: str | Path) -> Path:
    """The folder of a run.

    Args:
        run: A folder, which goes first, or ``owner/name`` on the hub.

    Returns:
        The folder; a name's copy in the hub's cache, fetched unless it is there.

    Raises:
        IsthmusError: The hub cannot be asked, refuses, or has no run of that name.
    """
    place = Path(run)
    if place.exists():
        if is_name(run) and _cached(str(run)) is not None:
            _log.warning("%s: the folder here, not the run of that name fetched before", run)
        return place
    if not is_name(run):
        return place  # whoever reads it says that there is none
    _log.warning("%s is no folder here: asking the Hugging Face hub for it", run)
    return _fetched(str(run))


def title(folder: Path) -> str:
    """What to call the run in a folder: its name, or that of which it is the hub's copy."""
    place = folder.resolve()
    repository = place.parent.parent.name
    if place.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return place.name


def _cached(name: str) -> Path | None:
    """``run.json`` of the copy fetched last; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, RUN_FILE)
    return Path(found) if isinstance(found, str) else None


def _fetched(name: str) -> Path:
    """The copy of a repository's run, what it lacks fetched."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    with asking(name, f"no such folder{_near(name)}, none fetched before, and "):
        try:  # first, because it takes no time to say that there is no network
            there = {one.rfilename for one in api.model_info(name).siblings or []}
        except Exception as error:  # of the client, or of its HTTP library
            known = None if isinstance(error, HfHubHTTPError) else _cached(name)
            if known is None:
                raise
            revision = known.parent.name[:8]
            _log.warning("%s: no answer; revision %s, fetched before", name, revision)
            return known.parent
        if RUN_FILE not in there:
            raise IsthmusError(
                f"{name}: not an Isthmus run, the hub has a repository of that name and no "
                f"{RUN_FILE} in it"
            )
        path = Path(api.hf_hub_download(name, RUN_FILE))
        folder, revision = path.parent, path.parent.name
        files = _files_of(name, path)
        absent = {
            one: size
            for one, size in files.items()
            if one in there and not (folder / one).is_file()
        }
        _log.warning(
            "%s: revision %s, %s",
            *(name, revision[:8]),
            f"fetching {amount(absent)} from {api.endpoint}" if absent else "fetched before",
        )
        for one in absent:
            api.hf_hub_download(name, one, revision=revision)
    return folder


def _files_of(name: str, path: Path) -> dict[str, int]:
    """The files of a run and their sizes, by its ``run.json``; refuses those that are no data."""
    try:
        files: Any = json.loads(path.read_text(encoding="utf-8"))["files"]
        sizes = {str(one): int(size) for one, size in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IsthmusError(
            f"{name}: not an Isthmus run, its {RUN_FILE} lists no files ({reason_of(error)})"
        ) from None
    other = [one for one in sizes if not one.endswith(_ENDINGS) or ".." in Path(one).parts]
    if other:
        raise IsthmusError(
            f"{name}: lists {other[0]} among its files, which no run has; nothing was fetched, "
            "because such a file could hold code"
        )
    return sizes


def amount(sizes: dict[str, int]) -> str:
    """How many files, and how large they are together."""
    size = sum(sizes.values())
    shown = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
    return f"{len(sizes)} file{'' if len(sizes) == 1 else 's'} ({shown})"


@contextmanager
def asking(name: str, absent: str = "") -> Iterator[None]:
    """Turn whatever the hub's client raises into one line.

    Args:
        name: The repository.
        absent: What to say first of a run that is not here, where the hub has or gives none.
    """
    try:
        yield
    except IsthmusError:
        raise
    except Exception as error:  # it raises dozens of its own, and those of its HTTP library
        first: BaseException = error
        while first.__cause__ is not None and not isinstance(first, OSError):
            first = first.__cause__
        raise IsthmusError(f"{name}: {_why(first, absent)}") from error


def _why(error: BaseException, absent: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    code = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, GatedRepoError):
        return f"the hub asks you to accept its terms on its page first; then {_LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{absent}the hub has none that you may read ({code}); if it is private, {_LOG_IN}"
    if code == 401:
        return f"the hub does not know you (401); {_LOG_IN}"
    if code == 403:
        return "the hub forbids it (403); take a token that may do it, or another owner"
    if constants.HF_HUB_OFFLINE:
        return f"{absent}HF_HUB_OFFLINE forbids asking the hub; unset it"
    if code or isinstance(error, ValueError):
        return f"the hub refuses it ({reason_of(error)})"
    return (
        f"{absent}{constants.ENDPOINT} does not answer ({reason_of(error, 60)}); connect to the "
        "network"
    )


def _near(name: str) -> str:
    """Folders here that the name may have meant."""
    place = Path(name)
    if not place.parent.is_dir():
        return ""
    near = get_close_matches(place.name, [one.name for one in place.parent.iterdir()], n=3)
    return f" (near it in {place.parent}: {', '.join(near)})" if near else ""
