"""LoRA adapters of peft, merged into the model that they were trained on."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.foreign.pickled import read_json
from isthmus.models.foreign.plain import Plain
from isthmus.models.stock import pretrained

SETTINGS = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def from_adapter(folder: Path, base: str = "", tokenizer: str = "") -> Plain:
    """W + B·A·α/r in place of each W, in float32.

    Args:
        folder: as peft saves it.
        base: the model that it changes; the one that the adapter names, if empty.
        tokenizer: a folder; the base's own if empty.

    Raises:
        IsthmusError: peft is not installed, the base cannot be read, or the adapter is not for it.
    """
    settings = read_json(folder / SETTINGS)
    base = base or str(settings.get("base_model_name_or_path") or "")
    if not base:
        raise IsthmusError(f"{folder.name}: does not name the model that it changes; use --base")
    files = tuple(path for name in _WEIGHTS if (path := folder / name).is_file())[:1]
    if not files:
        raise IsthmusError(f"{folder.name}: no weights in it; expected {' or '.join(_WEIGHTS)}")
    role = "decoder" if str(settings.get("task_type")).endswith("_LM") else "encoder"
    model, own = pretrained(base, role)
    merged = _merged(model, folder)
    merged.config.architectures = [type(merged).__name__]
    note = f"An adapter (`{folder.name}`), merged into `{Path(base).name}`."
    tensors = merged.state_dict()
    return Plain(folder.name, merged.config, tensors, tokenizer or own, files, (note,))


def _merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise IsthmusError(
            "adapters need the package peft, which is not installed; run: pip install "
            "'isthmus[lora]'"
        ) from error
    with in_one_line(
        f"{folder.name}: peft cannot put it on {type(model).__name__}",
        "give the model that it was trained on with --base",
    ):
        wrapped = PeftModel(model, PeftConfig.from_pretrained(str(folder)))
        # peft reads an adapter_model.bin with torch.load(weights_only=True).
        found = wrapped.load_adapter(str(folder), "default", torch_device="cpu")
        lost = [*found.unexpected_keys, *found.missing_keys]
        if lost:
            raise IsthmusError(
                f"{folder.name}: it and {type(model).__name__} differ in {len(lost)} weights "
                f"({lost[0]}, …); give the model that it was trained on with --base"
            )
        return wrapped.merge_and_unload()
