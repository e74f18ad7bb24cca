"""A trained network of signs on disk: safetensors and JSON, resumable, never a pickle."""

from __future__ import annotations

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

from isthmus.data.pictures.arrays import load_arrays
from isthmus.errors import IsthmusError
from isthmus.progress import counting
from isthmus.runs.bundle import versions, writing_to
from isthmus.runs.digests import KEY, damaged, seal, sealed
from isthmus.runs.folders import SETTINGS_FILE, check_files, claim, read_json, reading, write_json
from isthmus.signs.coder import Coder, Codes
from isthmus.signs.inscriptions import Signs
from isthmus.signs.networks import SignNetwork
from isthmus.signs.pseudo import PseudoLabels
from isthmus.signs.settings import NetworkSettings, TrainingSettings
from isthmus.signs.training import Losses, Training

KIND = "isthmus-signs"
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

    The trainer of :mod:`isthmus.training` does not fit: it needs examples, epochs and β, while a
    step here draws sequences of pictures and pseudo-labels change between steps.

    Args:
        signs: Training data.
        settings: Of the run; must be the run's own if it is resumed.
        out: The folder; must be empty or absent, unless resumed.
        resume: Continue from the checkpoint in ``out``.
        console: For progress.

    Raises:
        IsthmusError: The folder is in use, nothing is there to resume, settings or data differ.
    """
    training = Training(signs, settings)
    identity = {"settings": asdict(settings), "data": fingerprint(signs)}
    with writing_to(out), claim(out, identity, resume=resume, finished=RUN_FILE):
        if resume and (out / CHECKPOINT).is_file():
            restore(training, out / CHECKPOINT)
        losses: list[Losses] = []
        every = max(1, settings.steps // CHECKPOINTS)
        with counting(console, "training", settings.steps) as progress:
            progress(training.step)
            while training.step < settings.steps:
                losses.append(training.advance())
                progress(1)
                if training.step % every == 0 or training.step == settings.steps:
                    checkpoint(training, out / CHECKPOINT)
                    place = f"step {training.step:,} of {settings.steps:,}"
                    console.print(f"{place}  {_means(losses)}")
                    losses.clear()
        _finish(training, out, identity)
    return training


def _means(losses: list[Losses]) -> str:
    values: dict[str, list[float]] = {}
    for each in losses:
        for name, value in each.items():
            values.setdefault(name, []).append(value)
    return ", ".join(f"{name} {np.mean(found):.2f}" for name, found in values.items())


def fingerprint(signs: Signs) -> str:
    """SHA-256 of the pictures and their order."""
    digest = sha256(np.ascontiguousarray(signs.pictures).tobytes())
    for row in signs.order:
        digest.update(len(row).to_bytes(8, "little") + np.ascontiguousarray(row).tobytes())
    return digest.hexdigest()


def checkpoint(training: Training, path: Path) -> None:
    """Save the complete state between two steps."""
    state = training.optimiser.state_dict()["state"]
    adam = {f"{number}.{key}": value for number, of in state.items() for key, value in of.items()}
    tensors = _tensors(training.network, training.labels) | _named("adam.", adam)
    step = str(training.step)
    _save(tensors, path, {"step": step, "sha256": _digest(tensors, step)})


def restore(training: Training, path: Path) -> None:
    """Return to a checkpoint.

    Raises:
        IsthmusError: It is damaged.
    """
    tensors, metadata = _load(path)
    if metadata.get("sha256") != _digest(tensors, metadata.get("step", "")):
        raise IsthmusError(
            f"{path}: damaged (its content is not what was written); restore it, or delete it and "
            "the run starts from its first step"
        )
    training.step = int(metadata["step"])
    training.network.load_state_dict(_below(tensors, "network."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, "adam.").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    training.labels = _labels(tensors)


def _digest(tensors: Mapping[str, Tensor], step: str) -> str:
    """SHA-256 of all that a checkpoint holds."""
    found = sha256(step.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().numpy())
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def _tensors(network: SignNetwork, labels: PseudoLabels | None) -> dict[str, Tensor]:
    own = vars(labels) if labels is not None else {}
    return _named("network.", network.state_dict()) | _named("labels.", own)


def _labels(tensors: Mapping[str, Tensor]) -> PseudoLabels | None:
    found = _below(tensors, "labels.")
    return PseudoLabels(**found) if found else None


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors, whole or not at all."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, metadata)
    unfinished.replace(path)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except (OSError, SafetensorError) as error:
        raise IsthmusError(f"{path}: damaged ({error}); restore it or train again") from None


def _finish(training: Training, out: Path, identity: dict[str, Any]) -> None:
    """Save the coder and its codes; ``signs.json`` comes last, so a run that has one is whole."""
    coder = Coder.of(training)
    _save(_tensors(coder.network, coder.labels), out / WEIGHTS, {})
    _write_signs(training.signs, out / DATA)
    np.savez(out / CODES, codes=coder.encode_trained(training.signs))
    files = {name: (out / name).stat().st_size for name in (WEIGHTS, DATA, CODES)}
    record = {"kind": KIND, "versions": versions(), **identity, "files": files}
    seal(record, out, files, RUN_FILE)
    write_json(record, out / RUN_FILE)
    (out / CHECKPOINT).unlink(missing_ok=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of this module, finished or not."""
    return (folder / SETTINGS_FILE).is_file() and not (folder / "checkpoints").is_dir()


def codes_of(folder: Path, signs: Signs) -> Codes:
    """Codes of pictures [M F] from the network of a run.

    For the signs that the run was trained on these are the codes that it saved.

    Raises:
        IsthmusError: The run is not whole.
    """
    record = _record(folder)
    if record["data"] == fingerprint(signs):
        return load_arrays(folder / CODES, ("codes",))["codes"].astype(np.float64)
    return load_coder(folder).encode(signs)


def load_coder(folder: Path) -> Coder:
    """The trained network of a run.

    Raises:
        IsthmusError: The run is not whole.
    """
    given = _record(folder)["settings"]
    own = NetworkSettings(**given.pop("network"))
    settings = TrainingSettings(network=own, **given)
    tensors, _ = _load(folder / WEIGHTS)
    network = SignNetwork(own)
    network.load_state_dict(_below(tensors, "network."))
    return Coder(settings, network.eval(), _labels(tensors))


def _record(folder: Path) -> dict[str, Any]:
    """``signs.json`` of a finished run, its files checked."""
    if not (folder / RUN_FILE).is_file():
        reason = "the run was not finished; continue it with isthmus signs train … --resume"
        if not (folder / SETTINGS_FILE).is_file():
            reason = f"not a run of isthmus signs train, it has no {RUN_FILE}"
        raise IsthmusError(f"{folder}: {reason}")
    record = read_json(folder / RUN_FILE)
    with reading(folder / RUN_FILE):
        check_files(folder, record["files"])
    if KEY in record:  # version 0.1.0 wrote none
        digests = sealed(record, RUN_FILE)
        found = [RUN_FILE] if digests is None else list(damaged(folder, digests))
        if found:
            raise IsthmusError(
                f"{folder}: {', '.join(found)} changed since the run was written (another "
                "SHA-256); restore it or train again"
            )
    return record


def _write_signs(signs: Signs, path: Path) -> None:
    """Save the training data, so that a report needs only the run."""
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
