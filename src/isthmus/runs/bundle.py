"""Run directories: written completely or not at all, checked when loaded, without pickle."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer

from isthmus import __version__
from isthmus.data.corpus import TEXT
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError, reason_of
from isthmus.models.base import LatentModel
from isthmus.models.codec import TextCodec, make_codec
from isthmus.models.inspection import known_ids
from isthmus.models.joint.model import JointModel
from isthmus.models.language import LanguageModel
from isthmus.models.optimus import Half, OptimusModel
from isthmus.models.pictures.model import PictureModel
from isthmus.runs import whole
from isthmus.runs.card import model_card
from isthmus.runs.digests import seal
from isthmus.runs.folders import check_files, reading
from isthmus.runs.hub import local

BUNDLE_VERSION = 1.1
"""Versions of one whole number read each other's bundles; from 1.1 on they have digests."""
RUN_FILE = whole.RUN_FILE
ENCODER_TOKENIZER = "encoder_tokenizer"
_UNFINISHED = ".unfinished-"
_FORMER = "former-run.json"

SYSTEMS: dict[str, type[LatentModel]] = {
    "isthmus-optimus": OptimusModel,
    "isthmus-language": LanguageModel,
    "isthmus-picture": PictureModel,
    "isthmus-joint": JointModel,
}
"""Every model that can be saved, by the ``model_type`` in its config.json."""


def _verified(system: type[LatentModel]) -> type[LatentModel]:
    """The class that transformers' ``AutoModel`` loads a system by: its files are checked."""

    def from_pretrained(
        cls: type[LatentModel], place: Any, *arguments: Any, **options: Any
    ) -> Any:
        if not (Path(place) / RUN_FILE).is_file():  # a name of the hub, or a checkpoint
            return system.from_pretrained(place, *arguments, **options)
        with _checking(Path(place), read_run(place)):
            return system.from_pretrained(place, *arguments, **options)

    return type(system.__name__, (system,), {"from_pretrained": classmethod(from_pretrained)})


for _model_type, _system in SYSTEMS.items():
    # So that transformers' Auto classes can load a run directory.
    AutoConfig.register(_model_type, _system.config_class)
    AutoModel.register(_system.config_class, _verified(_system))

_REFUSALS = {  # ENOENT: what creating a folder in /proc gives
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
}
_OF_TEXTS = ("clusters", "null_code", "code_separator")
"""Settings that version 0.1.0 wrote for every model; where they are off, all models load them."""
_RECORDS = ("versions", "settings", "data", "public", "metrics")
"""Parts of ``run.json`` that are tables, where they are there."""
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")

_log = logging.getLogger(__name__)


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
        IsthmusError: A weight is not finite, the disk is full, or the folder cannot be written;
            nothing is half-saved.
    """
    target = Path(folder)
    whole.check_finite(model, target, "not saved; train again with a lower --train.learning-rate")
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
    run: dict[str, Any] = {}
    text = model.member(TEXT)
    # Other codecs follow from the configuration.
    if text is not None and isinstance(codec := text.codec, TextCodec):
        codec.decoder_tokenizer.save_pretrained(folder)
        if codec.encoder_tokenizer is not codec.decoder_tokenizer:
            codec.encoder_tokenizer.save_pretrained(folder / ENCODER_TOKENIZER)
        run["maximum_length"] = codec.maximum_length
    run |= {"versions": versions(), **record, "bundle_version": BUNDLE_VERSION}
    (folder / whole.CARD).write_text(model_card(model.config.model_type, run), encoding="utf-8")
    run["files"] = {name: (folder / name).stat().st_size for name in _files(folder)}
    seal(run, folder, run["files"], RUN_FILE)
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
    run = read_record(folder)
    sizes = {name: size for name, size in run["files"].items() if name != whole.CARD}
    check_files(Path(folder), sizes)
    whole.refuse_foreign(Path(folder), run["files"])
    return run


def read_record(folder: str | Path) -> dict[str, Any]:
    """``run.json`` of a run directory, whatever its other files are.

    Raises:
        IsthmusError: No such folder, an unfinished run, or a bundle of another version.
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
    with reading(path):
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check_types(run)
    if int(run["bundle_version"]) != int(BUNDLE_VERSION):
        writer = run.get("versions", {}).get("isthmus", "of an unknown version")
        raise IsthmusError(
            f"{folder}: written by Isthmus {writer} as bundle version {run['bundle_version']}, "
            f"this Isthmus reads version {BUNDLE_VERSION}; "
            "run: pip install --upgrade isthmus"
        )
    return run


def _check_types(run: dict[str, Any]) -> None:
    """Check what is read from ``run.json`` later without a further look."""
    int(run["bundle_version"])  # no NaN and no infinity
    types: dict[str, type | tuple[type, ...]] = {"bundle_version": (int, float), "files": dict}
    if "tokenizer_config.json" in run["files"]:
        types["maximum_length"] = int
    types |= {name: dict for name in _RECORDS if name in run}
    for name, kind in types.items():
        if not isinstance(run[name], kind) or isinstance(run[name], bool):
            raise TypeError(f"{name} is {run[name]!r}")
    for name, size in run["files"].items():
        if not isinstance(size, int):
            raise TypeError(f"the size of {name} is {size!r}")


def load_fast(folder: str | Path, verify: bool = True, only: Half | None = None) -> LatentModel:
    """As :func:`load`, on the fastest device there is."""
    model: torch.nn.Module = load(folder, verify, only)
    model = model.to("cuda") if torch.cuda.is_available() else model
    assert isinstance(model, LatentModel)
    return model


def load(folder: str | Path, verify: bool = True, only: Half | None = None) -> LatentModel:
    """A model from its run directory, in evaluation mode.

    Args:
        folder: The run directory, or ``owner/name`` on the hub.
        verify: Check the SHA-256 of every file, which finds damage that nothing else would.
        only: Load only this half of a text VAE, the other takes no memory; see
            :class:`OptimusModel`. Other models are loaded whole.

    Raises:
        IsthmusError: Not a complete run directory, files that are not as they were written, or
            weights that are not finite or do not fit the configuration.
    """
    place = local(folder)
    run = read_run(place)
    with _checking(place, run) if verify else nullcontext():
        return _load(place, run, only)


def _checking(place: Path, run: dict[str, Any]) -> AbstractContextManager[None]:
    """Check a run's files while the block loads it; a run without digests gets a note."""
    digests = whole.digests_of(run, place)
    if digests is None:
        _log.warning(
            "%s: of version 0.1.0, without digests; only the sizes of its files are checked", place
        )
        return nullcontext()
    return whole.verifying(place, digests)


def _load(place: Path, run: dict[str, Any], only: Half | None) -> LatentModel:
    model = load_weights(place, only)
    text = model.member(TEXT)
    if text is None:
        return model.eval()
    decoder_tokenizer = encoder_tokenizer = _tokenizer(place)
    if any(name.startswith(f"{ENCODER_TOKENIZER}/") for name in run["files"]):
        encoder_tokenizer = _tokenizer(place / ENCODER_TOKENIZER)
    config = text.config
    special = SpecialIds(config.decoder_start, config.decoder_end, config.decoder_pad)
    with reading(place):
        text.codec = make_codec(
            encoder_tokenizer,
            decoder_tokenizer,
            run["maximum_length"],
            special,
            config.label_names,
            config.code_separator,
            getattr(config, "sentence_settings", None),
            getattr(config, "vector_size", 0),
        )
        _check_ids(text, place)
    return model.eval()


def _check_ids(text: Any, place: Path) -> None:
    """Refuse ids around texts, or of unknown words, that encoder or decoder have no row for."""
    codec = text.codec
    parts: list[Any] = []
    if hasattr(text, "decoder"):
        special = codec.decoder_special
        parts.append(("decoder", text.decoder.stack, special, codec.decoder_tokenizer))
    if hasattr(text, "encoder") and not codec.vector_size:
        own = codec.encoder_special
        parts.append(("encoder", text.encoder.model, own, codec.encoder_tokenizer))
    for part, model, special, tokenizer in parts:
        rows = known_ids(model)
        ids = special._asdict() | {"unknown": tokenizer.unk_token_id}
        for name, found in ids.items():
            if found is not None and not 0 <= found < rows:
                raise IsthmusError(
                    f"{place}: the {name} token of its {part} has the id {found}, and the {part} "
                    f"knows 0 to {rows - 1}; restore its files or train again"
                )


def _tokenizer(folder: Path) -> Any:
    with reading(folder / "tokenizer.json"):
        return AutoTokenizer.from_pretrained(folder)


def load_weights(place: Path, only: Half | None = None) -> LatentModel:
    """A model from the configuration and the weights in a folder; every tensor must fit.

    Args:
        place: The folder.
        only: See :func:`load`.
    """
    path = place / "config.json"
    with reading(path):
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("model_type") not in SYSTEMS:
            raise ValueError(f"expected a model_type of {', '.join(SYSTEMS)}")
    system = SYSTEMS[config["model_type"]]
    _check_keys(config, system, path)
    options: dict[str, Any] = {"only": only} if only and system is OptimusModel else {}
    try:
        loaded: Any = system.from_pretrained(
            place,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype=torch.float32,  # but for what the model itself holds in another type
            **options,
        )
    except SafetensorError as error:
        raise IsthmusError(
            f"{place / 'model.safetensors'}: damaged ({error}); restore it or train again"
        ) from error
    except Exception as error:  # a damaged configuration raises anything
        raise IsthmusError(f"{place}: cannot be loaded ({reason_of(error)})") from error
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
    whole.check_finite(model, place / "model.safetensors", "restore the file or train again")
    if not options:
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
