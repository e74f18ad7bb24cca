"""A run directory: written whole or not at all, checked on loading, never a pickle."""

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

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from isthmus import __version__
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.codec import Codec, TextCodec, make_codec
from isthmus.models.joint.codec import JointCodec
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
    # So that transformers' Auto classes know a run directory for what it is.
    AutoConfig.register(_model_type, _system.config_class)
    AutoModel.register(_system.config_class, _system)

_REFUSALS = {  # making a folder in /proc gives ENOENT
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
}
_OF_TEXTS = ("clusters", "null_code", "code_separator")
"""Settings that version 0.1.0 wrote for every model; where they are off, all models load them."""
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"isthmus": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def save(model: LatentModel, folder: str | Path, record: dict[str, Any]) -> None:
    """Write a model directory.

    The files are written beside their place and moved there when all are whole; ``run.json``
    goes first on the way out and comes last on the way in, so a directory that has one is
    complete, whenever the process is killed, and never a mix of two models.

    Arguments:
        model: with its codec.
        folder: the run directory; what else lies there stays.
        record: settings, data, metrics: what ``run.json`` tells beside versions and files.

    Raises:
        IsthmusError: the disk is full or the folder cannot be written; nothing is half-saved.
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
        # From here on a failure leaves the new files where they are: nothing is lost.
        if (target / RUN_FILE).is_file():
            (target / RUN_FILE).replace(unfinished / _FORMER)
        _remove_former(target)
        for name in [*_files(unfinished), RUN_FILE]:
            (target / name).parent.mkdir(exist_ok=True)
            (unfinished / name).replace(target / name)
        for place in target.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(place)


def _remove_former(target: Path) -> None:
    """Remove the files of the bundle that was there, and what killed saves had moved there.

    A tokenizer of the former model that the new one lacks would be taken for its own.
    """
    lists = [*target.glob(f"{_UNFINISHED}*/{_FORMER}"), *target.glob(f"{_UNFINISHED}*/{RUN_FILE}")]
    for path in lists:
        try:
            names = list(json.loads(path.read_text(encoding="utf-8"))["files"])
        except (ValueError, KeyError, TypeError):  # killed while it was written
            continue
        for name in names:
            if target in (target / name).parents and ".." not in Path(name).parts:
                (target / name).unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    """Names of a bundle's files below its folder, ``run.json`` and its former one left out."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in names if name not in (RUN_FILE, _FORMER))


def _write(model: LatentModel, folder: Path, record: dict[str, Any]) -> None:
    model.save_pretrained(folder)
    codec = text_codec(model.codec)
    run: dict[str, Any] = {"bundle_version": BUNDLE_VERSION}
    if codec is not None:  # others follow from the configuration
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


def text_codec(codec: Codec) -> TextCodec | None:
    """The tokenizers of a model, or of its captions; None where it reads no text."""
    if isinstance(codec, JointCodec):
        codec = codec.parts.get("caption", codec)
    return codec if isinstance(codec, TextCodec) else None


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one line each."""
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
    """``run.json`` of a run directory, after checking that the directory is whole.

    Raises:
        IsthmusError: no such folder, a run that was not finished, a missing or truncated file.
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
    files.pop(_CARD, None)  # its owner may write into it
    check_files(place, files)
    return run


def load(folder: str | Path) -> LatentModel:
    """A model from its run directory, in evaluation mode.

    Raises:
        IsthmusError: not a whole run directory, or its weights do not fit its configuration.
    """
    run = read_run(folder)
    place = Path(folder)
    model = load_weights(place)
    reader = model
    if isinstance(model, JointModel):
        reader = model.parts["caption" if "caption" in model.parts else "picture"]
    if isinstance(reader, PictureModel):
        return model.eval()
    decoder_tokenizer = AutoTokenizer.from_pretrained(place)
    encoder_tokenizer = decoder_tokenizer
    if any(name.startswith(f"{ENCODER_TOKENIZER}/") for name in run["files"]):
        encoder_tokenizer = AutoTokenizer.from_pretrained(place / ENCODER_TOKENIZER)
    config = reader.config
    special = SpecialIds(config.decoder_start, config.decoder_end, config.decoder_pad)
    reader.codec = make_codec(
        encoder_tokenizer,
        decoder_tokenizer,
        run["maximum_length"],
        special,
        config.label_names,
        config.code_separator,
    )
    return model.eval()


def load_weights(place: Path) -> LatentModel:
    """Configuration and weights of a folder, every tensor accounted for."""
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
        model, found = system.from_pretrained(
            place, output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True
        )
    except SafetensorError as error:
        raise IsthmusError(
            f"{place / 'model.safetensors'}: damaged ({error}); restore it or train again"
        ) from error
    except (OSError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise IsthmusError(f"{place}: cannot be loaded: {reason}") from error
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
    """Refuse settings that nothing would read: transformers keeps them without a word."""
    known = {*system.config_class().to_dict(), *system.config_class().to_diff_dict()}
    for key, value in config.items():
        if key not in known and (value or key not in _OF_TEXTS):
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise IsthmusError(f"{path}: unknown setting {key!r}{hint}")
