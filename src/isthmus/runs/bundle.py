"""Run directories: written completely or not at all, checked when loaded, without pickle."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from isthmus import __version__
from isthmus.data.corpus import TEXT
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextCodec, make_codec
from isthmus.models.joint.model import JointModel
from isthmus.models.language import LanguageModel
from isthmus.models.optimus import OptimusModel
from isthmus.models.pictures.model import PictureModel
from isthmus.runs.card import model_card
from isthmus.runs.folders import check_files

BUNDLE_VERSION = 1
RUN_FILE = "run.json"
ENCODER_TOKENIZER = "encoder_tokenizer"
_CARD = "README.md"
_UNFINISHED = ".unfinished-"
_FORMER = "former-run.json"

SYSTEMS: dict[str, type[LatentModel]] = {
    "isthmus-optimus": OptimusModel,
    "isthmus-language": LanguageModel,
    "isthmus-picture": PictureModel,
    "isthmus-joint": JointModel,
}
"""Every model that can be saved, by the ``model_type`` in its config.json."""

for _model_type, _system in SYSTEMS.items():
    # So that transformers' Auto classes can load a run directory.
    AutoConfig.register(_model_type, _system.config_class)
    AutoModel.register(_system.config_class, _system)

_REFUSALS = {  # ENOENT: what creating a folder in /proc gives
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
}
_OF_TEXTS = ("clusters", "null_code", "code_separator")
"""Settings that version 0.1.0 wrote for every model; where they are off, all models load them."""
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Versions of the software that the numbers depend on."""
    found = {"isthmus": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save(model: LatentModel, folder: str | Path, record: dict[str, Any]) -> None:
    """Write a model directory.

    New files are written to a folder of their own and moved into place when all are complete.
    ``run.json`` is removed first and written last, so that a directory with a ``run.json`` is
    complete and never a mix of two models, whenever the process is killed.

    Args:
        model: With its codec.
        folder: The run directory; other files in it stay.
        record: What ``run.json`` holds besides versions and files: settings, data, metrics.

    Raises:
        IsthmusError: The disk is full or the folder cannot be written; nothing is half-saved.
    """
    target = Path(folder)
    with writing_to(target):
        target.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix=_UNFINISHED, dir=target))
        try:
            _write(model, unfinished, record)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        # A failure from here on leaves the new files where they are: nothing is lost.
        if (target / RUN_FILE).is_file():
            (target / RUN_FILE).replace(unfinished / _FORMER)
        _remove_former(target)
        for name in [*_files(unfinished), RUN_FILE]:
            (target / name).parent.mkdir(exist_ok=True)
            (unfinished / name).replace(target / name)
        for place in target.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(place)


def _remove_former(target: Path) -> None:
    """Remove the files of the bundle that was there, and those that killed saves had moved there.

    A tokenizer left by the former model would be read as the new model's own.
    """
    lists = [*target.glob(f"{_UNFINISHED}*/{_FORMER}"), *target.glob(f"{_UNFINISHED}*/{RUN_FILE}")]
    for path in lists:
        try:
            names = list(json.loads(path.read_text(encoding="utf-8"))["files"])
        except (ValueError, KeyError, TypeError):  # killed while writing
            continue
        for name in names:
            if target in (target / name).parents and ".." not in Path(name).parts:
                (target / name).unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    """Names of a bundle's files in its folder, without ``run.json`` and its former one."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in names if name not in (RUN_FILE, _FORMER))


def _write(model: LatentModel, folder: Path, record: dict[str, Any]) -> None:
    model.save_pretrained(folder)
    run: dict[str, Any] = {"bundle_version": BUNDLE_VERSION}
    text = model.member(TEXT)
    # Other codecs follow from the configuration.
    if text is not None and isinstance(codec := text.codec, TextCodec):
        codec.decoder_tokenizer.save_pretrained(folder)
        if codec.encoder_tokenizer is not codec.decoder_tokenizer:
            codec.encoder_tokenizer.save_pretrained(folder / ENCODER_TOKENIZER)
        run["maximum_length"] = codec.maximum_length
    run |= {"versions": versions(), **record}
    (folder / _CARD).write_text(model_card(model.config.model_type, run), encoding="utf-8")
    run["files"] = {name: (folder / name).stat().st_size for name in _files(folder)}
    with (folder / RUN_FILE).open("w", encoding="utf-8") as file:
        json.dump(run, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn errors of the operating system into one line each."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        text = str(error)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
            raise IsthmusError(
                f"{folder}: the disk is full; what was saved there before is untouched; "
                "make room or choose another folder with --out"
            ) from error
        if number in _REFUSALS:
            raise IsthmusError(
                f"{folder}: cannot be written ({os.strerror(number)}); "
                "choose another folder with --out"
            ) from error
        raise


def read_run(folder: str | Path) -> dict[str, Any]:
    """``run.json`` of a run directory, after checking that the directory is complete.

    Raises:
        IsthmusError: No such folder, an unfinished run, a missing or truncated file, or a bundle
            of another version.
    """
    place = Path(folder)
    if not place.is_dir():
        raise IsthmusError(f"{folder}: no such run directory; train one with isthmus train")
    path = place / RUN_FILE
    if not path.is_file():
        if (place / "checkpoints").is_dir() or list(place.glob(".unfinished-*")):
            raise IsthmusError(
                f"{folder}: the run was not finished; go on with isthmus train … --resume"
            )
        raise IsthmusError(f"{folder}: not a run directory, it has no {RUN_FILE}")
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = dict(run["files"])
        bundle_version = int(run["bundle_version"])
        if "tokenizer_config.json" in files:
            int(run["maximum_length"])
    except (ValueError, KeyError, TypeError) as error:
        raise IsthmusError(
            f"{path}: damaged ({type(error).__name__}: {error}); restore it or train again"
        ) from error
    if bundle_version != BUNDLE_VERSION:
        writer = run.get("versions", {}).get("isthmus", "of an unknown version")
        raise IsthmusError(
            f"{folder}: written by Isthmus {writer} as bundle version {bundle_version}, this "
            f"Isthmus reads version {BUNDLE_VERSION}; "
            "run: pip install --upgrade isthmus"
        )
    files.pop(_CARD, None)  # users may edit it
    check_files(place, files)
    return run


def load_fast(folder: str | Path) -> LatentModel:
    """As :func:`load`, on the fastest device there is."""
    model: torch.nn.Module = load(folder)
    model = model.to("cuda") if torch.cuda.is_available() else model
    assert isinstance(model, LatentModel)
    return model


def load(folder: str | Path) -> LatentModel:
    """A model from its run directory, in evaluation mode.

    Raises:
        IsthmusError: Not a complete run directory, or weights that do not fit the configuration.
    """
    run = read_run(folder)
    place = Path(folder)
    model = load_weights(place)
    text = model.member(TEXT)
    if text is None:
        return model.eval()
    decoder_tokenizer = AutoTokenizer.from_pretrained(place)
    encoder_tokenizer = decoder_tokenizer
    if any(name.startswith(f"{ENCODER_TOKENIZER}/") for name in run["files"]):
        encoder_tokenizer = AutoTokenizer.from_pretrained(place / ENCODER_TOKENIZER)
    config = text.config
    special = SpecialIds(config.decoder_start, config.decoder_end, config.decoder_pad)
    text.codec = make_codec(
        encoder_tokenizer,
        decoder_tokenizer,
        run["maximum_length"],
        special,
        config.label_names,
        config.code_separator,
    )
    return model.eval()


def load_weights(place: Path) -> LatentModel:
    """A model from the configuration and the weights in a folder; every tensor must fit."""
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        system = SYSTEMS[config["model_type"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IsthmusError(
            f"{place / 'config.json'}: not the configuration of an Isthmus model "
            f"({type(error).__name__}: {error}); "
            f"expected a model_type of {', '.join(SYSTEMS)}"
        ) from error
    _check_keys(config, system, place / "config.json")
    try:
        loaded: Any = system.from_pretrained(
            place, output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True
        )
    except SafetensorError as error:
        raise IsthmusError(
            f"{place / 'model.safetensors'}: damaged ({error}); restore it or train again"
        ) from error
    except (OSError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise IsthmusError(f"{place}: cannot be loaded: {reason}") from error
    model: LatentModel = loaded[0]
    found = loaded[1]
    problems = {
        "config.json asks for tensors that it lacks": found["missing_keys"],
        "it has tensors that config.json does not ask for": found["unexpected_keys"],
        "tensors have another size than config.json says": [
            key for key, *_ in found["mismatched_keys"]
        ],
    }
    for what, keys in problems.items():
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (" …" if len(keys) > 3 else "")
            raise IsthmusError(
                f"{place / 'model.safetensors'}: {what}, {len(keys)} in all ({shown}); "
                "the two files are not of one model, restore them or train again"
            )
    model.freeze()
    return model


def _check_keys(config: dict[str, Any], system: type[LatentModel], path: Path) -> None:
    """Refuse unknown settings, which transformers would keep without a warning."""
    known = {*system.config_class().to_dict(), *system.config_class().to_diff_dict()}
    for key, value in config.items():
        if key not in known and (value or key not in _OF_TEXTS):
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise IsthmusError(f"{path}: unknown setting {key!r}{hint}")
