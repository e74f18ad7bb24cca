"""A trained network of signs on disk: safetensors and JSON, resumable, never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.progress import counting
from isthmus.runs.bundle import versions, writing_to
from isthmus.signs.coder import Coder, Codes
from isthmus.signs.inscriptions import Signs, load_arrays
from isthmus.signs.networks import SignNetwork
from isthmus.signs.pseudo import PseudoLabels
from isthmus.signs.settings import NetworkSettings, TrainingSettings
from isthmus.signs.training import Losses, Training

KIND = "isthmus-signs"
SETTINGS_FILE = "settings.json"
CHECKPOINT = "checkpoint.safetensors"
RUN_FILE = "signs.json"
WEIGHTS = "network.safetensors"
DATA = "data.npz"
CODES = "codes.npz"
CHECKPOINTS = 10
"""In a run."""


def train(
    signs: Signs, settings: TrainingSettings, out: Path, resume: bool, console: Console
) -> Training:
    """Train and leave a run in a folder.

    Arguments:
        signs: what is trained on.
        settings: of the run; must be the run's own when it is resumed.
        out: the folder; must be empty or absent, unless resumed.
        resume: go on from the checkpoint in ``out``.
        console: where progress goes.

    Raises:
        IsthmusError: the folder is in use, nothing is there to resume, settings or data differ.
    """
    training = Training(signs, settings)
    identity = {"settings": asdict(settings), "data": fingerprint(signs)}
    with writing_to(out):
        _claim(out, identity, resume)
        if resume and (out / CHECKPOINT).is_file():
            restore(training, out / CHECKPOINT)
        losses: list[Losses] = []
        every = max(1, settings.steps // CHECKPOINTS)
        with counting(console, "training", settings.steps) as progress:
            progress(training.step)
            while training.step < settings.steps:
                before = training.step
                until = min(settings.steps, before - before % every + every)

                def tell(found: Losses) -> None:
                    losses.append(found)
                    progress(1)

                training.run(until, tell)
                checkpoint(training, out / CHECKPOINT)
                console.print(f"step {training.step:,} of {settings.steps:,}  {_told(losses)}")
                losses.clear()
        _finish(training, out, identity)
    return training


def _told(losses: list[Losses]) -> str:
    """Means since the last line."""
    names = {"own": "picture", "context": "from context", "pseudo": "pseudo-labels"}
    found = []
    for key, name in names.items():
        values = [value for each in losses if (value := getattr(each, key)) is not None]
        if values:
            found.append(f"{name} {np.mean(values):.2f}")
    return ", ".join(found)


def fingerprint(signs: Signs) -> str:
    """SHA-256 of the pictures and their order."""
    digest = sha256(np.ascontiguousarray(signs.pictures).tobytes())
    for row in signs.order:
        digest.update(len(row).to_bytes(8, "little") + np.ascontiguousarray(row).tobytes())
    return digest.hexdigest()


def _claim(out: Path, identity: dict[str, Any], resume: bool) -> None:
    """Take a new folder, or check that the run in it is this one."""
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise IsthmusError(
                f"{out}: exists already; go on with --resume, or choose another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / SETTINGS_FILE).write_text(json.dumps(identity, indent=1), encoding="utf-8")
        return
    if (out / RUN_FILE).is_file():
        raise IsthmusError(f"{out}: the run is finished, there is nothing to resume")
    if not (out / SETTINGS_FILE).is_file():
        raise IsthmusError(f"{out}: nothing to resume there; leave --resume out to start a run")
    before = _json(out / SETTINGS_FILE)
    for part, now in identity.items():
        if before.get(part) != now:
            raise IsthmusError(
                f"{out}: cannot be resumed, its {part} differ from this command's; "
                "use the same command as before"
            )


def checkpoint(training: Training, path: Path) -> None:
    """Everything that the next step follows from, written beside its place and moved there."""
    tensors = {f"network.{k}": v for k, v in training.network.state_dict().items()}
    for number, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value for key, value in state.items()}
    if training.labels is not None:
        tensors |= {f"labels.{k}": v for k, v in vars(training.labels).items()}
    _save(tensors, path, {"step": str(training.step)})


def restore(training: Training, path: Path) -> None:
    """Go back to a checkpoint.

    Raises:
        IsthmusError: it is damaged.
    """
    tensors, told = _load(path)
    training.step = int(told["step"])
    training.network.load_state_dict(_below(tensors, "network."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, "adam.").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    if labels := _below(tensors, "labels."):
        training.labels = PseudoLabels(**labels)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _save(tensors: Mapping[str, Tensor], path: Path, told: dict[str, str]) -> None:
    unfinished = path.with_name(f".unfinished-{path.name}")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, told)
    os.replace(unfinished, path)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        return load_file(path), told
    except (OSError, SafetensorError) as error:
        raise IsthmusError(f"{path}: damaged ({error}); restore it or train again") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IsthmusError(f"{path}: damaged ({error}); restore it or train again") from None
    return dict(found)


def _finish(training: Training, out: Path, identity: dict[str, Any]) -> None:
    """Save what codes follow from; ``signs.json`` comes last, so that a run with one is whole."""
    coder = Coder.of(training)
    tensors = {f"network.{k}": v for k, v in coder.network.state_dict().items()}
    if coder.labels is not None:
        tensors |= {f"labels.{k}": v for k, v in vars(coder.labels).items()}
    _save(tensors, out / WEIGHTS, {})
    _write_signs(training.signs, out / DATA)
    np.savez(out / CODES, codes=coder.encode_trained(training.signs))
    files = {name: (out / name).stat().st_size for name in (WEIGHTS, DATA, CODES)}
    record = {"kind": KIND, "versions": versions(), **identity, "files": files}
    unfinished = out / f".unfinished-{RUN_FILE}"
    unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(unfinished, out / RUN_FILE)
    (out / CHECKPOINT).unlink(missing_ok=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is, or was to be, a run of this module."""
    return (folder / SETTINGS_FILE).is_file() and not (folder / "checkpoints").is_dir()


def codes_of(folder: Path, signs: Signs) -> Codes:
    """Codes of pictures [M F] by the network of a run.

    For the very signs that the run was trained on these are the codes it saved.

    Raises:
        IsthmusError: the run is not whole.
    """
    record = _record(folder)
    if record["data"] == fingerprint(signs):
        return load_arrays(folder / CODES, ("codes",))["codes"].astype(np.float64)
    return load_coder(folder).encode(signs)


def load_coder(folder: Path) -> Coder:
    """The trained network of a run.

    Raises:
        IsthmusError: the run is not whole.
    """
    given = dict(_record(folder)["settings"])
    network_settings = NetworkSettings(**given.pop("network"))
    settings = TrainingSettings(network=network_settings, **given)
    tensors, _ = _load(folder / WEIGHTS)
    network = SignNetwork(network_settings)
    network.load_state_dict(_below(tensors, "network."))
    labels = _below(tensors, "labels.")
    return Coder(settings, network.eval(), PseudoLabels(**labels) if labels else None)


def _record(folder: Path) -> dict[str, Any]:
    """``signs.json`` of a whole run."""
    if not (folder / RUN_FILE).is_file():
        reason = "the run was not finished; go on with isthmus signs train … --resume"
        if not (folder / SETTINGS_FILE).is_file():
            reason = f"not a run of isthmus signs train, it has no {RUN_FILE}"
        raise IsthmusError(f"{folder}: {reason}")
    record = _json(folder / RUN_FILE)
    for name, size in record["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise IsthmusError(f"{file}: missing or truncated; restore it or train again")
    return record


def _write_signs(signs: Signs, path: Path) -> None:
    """What a run was trained on, so that a report needs the run alone."""
    np.savez_compressed(
        path,
        pictures=signs.pictures,
        tokens=signs.tokens,
        lengths=np.asarray([len(row) for row in signs.order], dtype=np.int64),
        files=np.asarray(signs.files),
        names=np.asarray([name or "" for name in signs.names]),
        source=np.asarray(signs.source.replace("\\", "/").rpartition("/")[2]),
    )


def read_signs(folder: Path) -> Signs:
    """The signs that a run was trained on."""
    _record(folder)
    keys = ("pictures", "tokens", "lengths", "files", "names", "source")
    found = load_arrays(folder / DATA, keys)
    ends = np.cumsum(found["lengths"].astype(np.int64))[:-1]
    return Signs(
        found["pictures"].astype(np.float32),
        tuple(np.split(found["tokens"].astype(np.int64), ends)) if len(found["lengths"]) else (),
        tuple(found["files"].tolist()),
        tuple(name or None for name in found["names"].tolist()),
        str(found["source"]),
    )
