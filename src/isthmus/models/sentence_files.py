"""The folder of a sentence-transformers encoder: its pooling, layers, prompts and limits.

Beside a transformers model it has ``modules.json``, which names modules that run one after the
other, each with a folder of its own (a pooling, dense layers, a normalisation); other files have
prompts and the longest text. Here these are read as data. No code of a folder is run, no pickle is
read, and a module or setting that is not known is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from isthmus.errors import IsthmusError, in_one_line
from isthmus.latent.pooling import SENTENCE_POOLINGS
from isthmus.models.sentence import UNLIMITED, SentenceLayers, SentenceSettings

MODULES: Final = "modules.json"

_LEGACY_POOLINGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Older names of the poolings, in the order in which several are joined."""

_TRANSFORMER_FILES: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_READ: Final = {"max_seq_length", "do_lower_case", "unpad_inputs"}
"""Settings of the transformer that are known, or change no vector."""
_EXPECTED: Final[dict[str, Any]] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
"""Settings of the transformer that have one value for an encoder of texts."""


@final
@dataclass(frozen=True)
class SentenceModules:
    """A folder's settings and the weights of its layers, by their names in SentenceLayers."""

    source: str
    settings: SentenceSettings
    weights: dict[str, Tensor]

    def layers(self, hidden_size: int) -> SentenceLayers:
        """The layers, for states of that width."""
        return self.fill(SentenceLayers(self.settings, hidden_size))

    def fill(self, layers: SentenceLayers) -> SentenceLayers:
        """Give layers the weights of the folder, in place."""
        with in_one_line(
            f"encoder source {self.source}: the weights of its modules do not fit",
            "restore its module folders",
        ):
            layers.load_state_dict(self.weights)
        return layers


def transformer_folder(place: str) -> str:
    """Where the transformers model of a folder is: in it, or where its first module says."""
    path = Path(place) / MODULES
    if not path.is_file():
        return place
    with in_one_line(f"{path}: damaged", "restore it"):
        first = json.loads(path.read_text(encoding="utf-8"))[0]
        return str(Path(place) / _inside(first["path"]))


def is_sentence_folder(source: str, place: str) -> bool:
    """Whether a source has modules of sentence-transformers; see :func:`read_modules`."""
    return _Folder(source, place).find(MODULES) is not None


def read_modules(
    source: str, place: str, prompt: str, tokenizer: PreTrainedTokenizerBase, positions: int | None
) -> SentenceModules | None:
    """The modules of a sentence-transformers folder; None for another folder.

    A tokenizer without lower-casing gets it where the folder asks for it.

    Args:
        source: what the user named.
        place: its folder, or a name on the hub.
        prompt: name of a prompt, or a prompt itself; empty for the folder's default.
        tokenizer: of the source.
        positions: the most tokens that the model can take; None without a limit.

    Raises:
        IsthmusError: a module, setting or prompt that is not known, or missing files.
    """
    folder = _Folder(source, place)
    modules = folder.json(MODULES)
    if modules is None:
        return None
    with folder.reading():
        kinds = [str(module["type"]) for module in modules]
        paths = [_inside(module["path"]) for module in modules]
    names = [kind.split(".")[-1] for kind in kinds]
    for kind, name in zip(kinds, names, strict=True):
        if not kind.startswith("sentence_transformers.") or name not in _MODULES:
            raise folder.refusal(f"the module {kind}", f"one of {', '.join(_MODULES)}")
    if names[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(names[2:]):
        raise folder.refusal(f"the modules {', '.join(names)}", "Transformer, Pooling, …")
    longest = _read_transformer(folder, paths[0], tokenizer, positions)
    settings = SentenceSettings(maximum_length=longest)
    pooling = folder.json(f"{paths[1]}/config.json") or {}
    settings = replace(settings, poolings=_poolings(folder, pooling))
    layers: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for name, path in zip(names[2:], paths[2:], strict=True):
        found = _MODULES[name](folder, path)
        if found is not None:
            own = folder.weights(path) if len(found) > 1 else {}
            weights |= {f"layers.{len(layers)}.{key}": value for key, value in own.items()}
            layers.append(found)
    settings = replace(settings, layers=tuple(layers))
    return SentenceModules(
        source,
        _with_prompt(folder, settings, prompt, tokenizer, pooling.get("include_prompt", True)),
        weights,
    )


@final
@dataclass(frozen=True)
class _Folder:
    """Files of a source."""

    source: str
    place: str

    def reading(self) -> AbstractContextManager[None]:
        """Turn what a damaged file makes a library raise into one line."""
        return in_one_line(
            f"encoder source {self.source}: its sentence-transformers files cannot be read",
            "restore them, or use --model.encoder.pooling mean or pooler to do without them",
        )

    def refusal(self, got: str, expected: str) -> IsthmusError:
        """The error for what is not known."""
        return IsthmusError(
            f"encoder source {self.source}: got {got}, expected {expected}; use another encoder, "
            "or --model.encoder.pooling mean to leave its modules out"
        )

    def find(self, name: str) -> Path | None:
        """A file, None if it is missing; a hub that cannot be asked is an error."""
        if Path(self.place).exists():
            path = Path(self.place) / name
            return path if path.is_file() else None
        found = cached_file(self.place, name, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)

    def json(self, name: str) -> Any:
        """The content of a JSON file, None if it is missing."""
        with self.reading():
            path = self.find(name)
            return None if path is None else json.loads(path.read_text(encoding="utf-8"))

    def weights(self, path: str) -> dict[str, Tensor]:
        """The weights of a module, in float32."""
        with self.reading():
            found = self.find(f"{path}/model.safetensors")
            if found is None:
                raise IsthmusError(
                    f"encoder source {self.source}: {path} has no model.safetensors (a pickle "
                    "such as pytorch_model.bin is never read); save the model again with "
                    "sentence-transformers"
                )
            return {name: value.float() for name, value in load_file(found).items()}


def _inside(path: str) -> str:
    if path.startswith(("/", "\\")) or ".." in Path(path).parts:
        raise ValueError(f"the module path {path!r} leads out of the folder")
    return path


def _dense(folder: _Folder, path: str) -> dict[str, Any]:
    config = folder.json(f"{path}/config.json") or {}
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = activation.split(".")[-1]
    if not activation.startswith("torch.nn.modules.") or not hasattr(nn, name):
        raise folder.refusal(f"the activation {activation} of {path}", "one of torch.nn")
    for end in ("module_input_name", "module_output_name"):
        if config.get(end, "sentence_embedding") not in ("sentence_embedding", None):
            raise folder.refusal(f"{end} {config[end]} of {path}", "sentence_embedding")
    with folder.reading():
        return {
            "kind": "dense",
            "inputs": int(config["in_features"]),
            "outputs": int(config["out_features"]),
            "bias": bool(config.get("bias", True)),
            "activation": name,
            "residual": bool(config.get("use_residual", False)),
        }


def _normalize(folder: _Folder, path: str) -> dict[str, Any]:
    config = folder.json(f"{path}/config.json") or {}
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise folder.refusal(f"a Normalize of {config['module_input_name']}", "of the sentence")
    return {"kind": "normalize"}


def _layer_norm(folder: _Folder, path: str) -> dict[str, Any]:
    config = folder.json(f"{path}/config.json") or {}
    with folder.reading():
        return {"kind": "layer-norm", "size": int(config["dimension"])}


_MODULES: Final[dict[str, Callable[[_Folder, str], dict[str, Any] | None]]] = {
    "Transformer": lambda folder, path: None,
    "Pooling": lambda folder, path: None,
    "Dense": _dense,
    "Normalize": _normalize,
    "LayerNorm": _layer_norm,
    "Dropout": lambda folder, path: None,  # of the library's own training
}
"""Class of a module → its layer, None if it has none."""


def _read_transformer(
    folder: _Folder, path: str, tokenizer: PreTrainedTokenizerBase, positions: int | None
) -> int:
    """Lower-casing, which the tokenizer gets, and the longest text in tokens."""
    prefix = f"{path}/" if path else ""
    found = (folder.json(prefix + name) for name in _TRANSFORMER_FILES)
    config: dict[str, Any] = next((each for each in found if each is not None), {})
    for name, value in config.items():
        if name in _EXPECTED and value != _EXPECTED[name]:
            raise folder.refusal(f"{name} {value}", str(_EXPECTED[name]))
        if name not in _EXPECTED and name not in _READ and value:
            raise folder.refusal(f"a transformer with {name} {value}", "none")
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise folder.refusal("a tokenizer that cuts texts on the left", "on the right")
    if config.get("do_lower_case"):
        _lower_case(folder, tokenizer)
    longest = config.get("max_seq_length")
    if longest is None:
        longest = tokenizer.model_max_length
        if positions is not None and positions > 0:
            longest = min(longest, positions)
    return int(min(longest, UNLIMITED))


def _lower_case(folder: _Folder, tokenizer: PreTrainedTokenizerBase) -> None:
    from tokenizers import normalizers

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise folder.refusal("do_lower_case with a slow tokenizer", "a tokenizer.json")
    backend = tokenizer.backend_tokenizer
    own = backend.normalizer
    several = isinstance(own, normalizers.Sequence)
    each = list(own) if several else [own] * (own is not None)
    if not any(isinstance(one, normalizers.Lowercase) for one in each):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *each])


def _poolings(folder: _Folder, config: Mapping[str, Any]) -> tuple[str, ...]:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    found = (modes,) if isinstance(modes, str) else tuple(modes)
    for mode in found:
        if mode not in SENTENCE_POOLINGS:
            raise folder.refusal(f"the pooling {mode}", f"one of {', '.join(SENTENCE_POOLINGS)}")
    return found


def _with_prompt(
    folder: _Folder,
    settings: SentenceSettings,
    prompt: str,
    tokenizer: PreTrainedTokenizerBase,
    included: bool,
) -> SentenceSettings:
    config = folder.json("config_sentence_transformers.json") or {}
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise folder.refusal(f"a model of the type {kind}", "SentenceTransformer")
    known = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default and default not in known:
        raise folder.refusal(f"the default prompt {default}", f"one of {', '.join(known)}")
    text = known[default] if default else ""
    if prompt in known:
        text = known[prompt]
    elif prompt.isidentifier():
        raise IsthmusError(
            f"model.encoder.prompt: got {prompt!r}, expected one of {', '.join(known) or 'none'} "
            f"(the prompts of {folder.source}) or a prompt itself, such as 'query: '"
        )
    elif prompt:
        text = prompt
    unpooled = 0
    if text and not included:
        ids = tokenizer(text)["input_ids"]
        unpooled = len(ids) - (ids[-1] in tokenizer.all_special_ids)
    if unpooled >= settings.maximum_length - 1:
        raise folder.refusal(f"a prompt of {unpooled} tokens", "a shorter one")
    return replace(
        settings, prompt=text, unpooled=unpooled, truncated=int(config.get("truncate_dim") or 0)
    )
