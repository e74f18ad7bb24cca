"""A run → a repository of the Hugging Face hub: the files of its bundle, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import RepositoryNotFoundError

from isthmus.errors import IsthmusError, in_one_line
from isthmus.runs import card, whole
from isthmus.runs.bundle import read_run
from isthmus.runs.digests import damaged
from isthmus.runs.folders import RUN_FILE, read_json
from isthmus.runs.hub import amount, asking, is_name, local

_EMPTY = {".gitattributes", whole.CARD, "LICENSE"}
"""Files that a repository without a model can have."""

_log = logging.getLogger(__name__)


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    licence: str = "",
    languages: Sequence[str] = (),
) -> str:
    """Put a run on the hub, as one commit; what it has there of a former run goes.

    Args:
        folder: The run directory.
        name: The repository, ``owner/name``; made if there is none.
        private: Make it so that only its owner sees it.
        licence: For the card, as the hub abbreviates it: ``apache-2.0``, ``mit``.
        languages: For the card, as ISO 639 abbreviates them: ``en``.

    Returns:
        The address of the commit.

    Raises:
        IsthmusError: Not a whole run, a repository of something else, or the hub cannot be asked,
            does not know the user, or refuses.
    """
    if not is_name(name):
        raise IsthmusError(f"{name}: expected owner/name, a repository of the Hugging Face hub")
    place = local(folder)
    run = read_run(place)
    digests = whole.digests_of(run, place) or {}
    if found := damaged(place, digests):
        raise whole.changed(place, list(found))
    text = _card(place, run, licence, languages)
    files = sorted({*run["files"], RUN_FILE} - {whole.CARD})
    sizes = {one: (place / one).stat().st_size for one in files}
    api = HfApi()
    with asking(name):
        former = _former(api, name)
        sizes[whole.CARD] = len(text.encode())
        _log.warning("%s: sending %s to %s", name, amount(sizes), api.endpoint)
        api.create_repo(name, private=private or None, exist_ok=True)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(one) for one in sorted(former - set(sizes))),
            *(CommitOperationAdd(one, place / one) for one in files),
            CommitOperationAdd(whole.CARD, text.encode()),
        ]
        message = f"Run of Isthmus {run.get('versions', {}).get('isthmus', '')}".strip()
        return str(api.create_commit(name, operations, commit_message=message).commit_url)


def _card(place: Path, run: dict[str, Any], licence: str, languages: Sequence[str]) -> str:
    """The card of a run, with the metadata that its user has written in it or says now."""
    path = place / whole.CARD
    model_type = read_json(place / "config.json")["model_type"]
    with in_one_line(f"{path}: the lines between --- are no metadata of a card", "mend them"):
        text = path.read_text("utf-8") if path.is_file() else card.model_card(model_type, run)
        own = ModelCard(text, ignore_metadata_errors=False)
        given = {"license": licence, "language": list(languages)}
        found = card.metadata(model_type, run).to_dict() | own.data.to_dict()
        found |= {key: value for key, value in given.items() if value}
        # As the hub does first: it reads what it is sent.
        sent = ModelCard(f"---\n{type(own.data)(**found).to_yaml()}\n---\n{own.text}")
    for key, flag in (("license", "--license"), ("language", "--language")):
        if not sent.data.get(key):
            _log.warning("the card names no %s: add %s, or %s: in %s", key, flag, key, path)
    return str(sent)


def _former(api: HfApi, name: str) -> set[str]:
    """The files of the run that a repository has; empty if there is none of either.

    Raises:
        IsthmusError: The repository has something else.
    """
    try:
        siblings = api.model_info(name).siblings
    except RepositoryNotFoundError:
        return set()
    there = {one.rfilename for one in siblings or []}
    if RUN_FILE in there:
        listed = read_json(Path(api.hf_hub_download(name, RUN_FILE))).get("files", {})
        return there & {*listed, RUN_FILE}
    if other := there - _EMPTY:
        raise IsthmusError(
            f"{name}: the hub has a repository of that name with {min(other)} in it, and it is no "
            "Isthmus run; choose another name"
        )
    return set()
