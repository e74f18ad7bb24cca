"""The README.md of a run directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from isthmus.data.folders import SPLIT_NAMES
from isthmus.data.hub import SCENES
from isthmus.data.kinds import JOINT, PICTURE, TEXT, of_record
from isthmus.models.stock import PACKAGES
from isthmus.settings import Settings

_ROWS = (
    ("row_0", "row 0: −log p(x) of the pretrained decoder, untrained", "nats per {one}"),
    ("nll_iw", "importance-weighted −log p(x)", "nats per {one}"),
    ("elbo", "ELBO", "nats per {one}"),
    ("reconstruction", "reconstruction −E[log p(x|z)]", "nats per {one}"),
    ("kl", "KL(q(z|x) ‖ p(z))", "nats per {one}"),
    ("picture_nll_iw", "importance-weighted −log p(picture)", "nats per picture"),
    ("caption_nll_iw", "importance-weighted −log p(caption)", "nats per caption"),
    ("caption_from_picture", "−log p(caption|picture)", "nats per caption"),
    (
        "caption_from_picture_shuffled",
        "the same from the wrong picture",
        "nats per caption",
    ),
    ("caption_from_prior", "the same from the prior", "nats per caption"),
    ("picture_from_caption", "−log p(picture|caption)", "nats per picture"),
    (
        "picture_from_caption_shuffled",
        "the same from the wrong caption",
        "nats per picture",
    ),
    ("picture_from_prior", "the same from the prior", "nats per picture"),
    ("bits_per_dimension", "importance-weighted −log p(x)", "bits per value"),
    ("ppl_word", "perplexity", "per word and end"),
    ("bits_per_character", "importance-weighted −log p(x)", "bits per character"),
    ("mutual_information", "mutual information I(x; z)", "nats"),
    ("active_units", "active units", "dimensions"),
    ("swap_gap", "rise of the reconstruction under the z of another {one}", "nats per {one}"),
    ("exact_match", "sentences reconstructed word for word", "fraction"),
    (
        "label_from_picture_accuracy",
        "labels predicted correctly from the picture",
        "fraction",
    ),
    (
        "label_from_caption_accuracy",
        "labels predicted correctly from the caption",
        "fraction",
    ),
    ("label_commonest", "share of the most common label", "fraction"),
    ("label_accuracy", "{one}s whose label is predicted correctly", "fraction"),
    ("attribution_accuracy", "the same by p(x|label) alone, with equal p(label)", "fraction"),
    ("calibration_error", "expected calibration error of p(label|x)", "fraction"),
)
_TASKS = {
    TEXT: "text-generation",
    PICTURE: "unconditional-image-generation",
    JOINT: "image-to-text",
}
"""What the hub calls what a model of a kind of data is for."""
SUMMARY = "summary_"
"""Begins the keys of the figures of a summary by itself."""
SAME = frozenset(
    {
        *("sentences", "iw_samples", "seed", "tokens", "words", "characters", "cut"),
        *("unknown_tokens", "prior", "mutual_information_limit", "active_units_threshold"),
    }
)
"""Keys whose figures are the same for all latents and for the summary."""
ENDS = ("all latents: what goes in comes back", "the summary alone: likelihood")
"""The two ends of a model with a summary, and what each is for."""
OF_BOTH = frozenset({"reconstruction", "kl", "swap_gap", "exact_match", "bleu"})
"""Keys that both ends have; of the others that a summary has, all latents say little, because the
details cost more nats than a text holds, on purpose."""
_PERPLEXITIES = frozenset({"ppl_word", "ppl_token"})
_LARGEST = 1e5
"""No language that is written in words has a larger perplexity by their frequencies alone."""
_OF_THE_LATENT = ("elbo", "reconstruction", "kl", "mutual_information", "active_units", "swap_gap")
_BOUND = "importance-weighted "


def counted(record: dict[str, Any]) -> tuple[int, str]:
    """How many examples a record is about, and what they are called."""
    many = f"{of_record(record).unit}s"
    return record.get(many, 0), many


def vain(metrics: dict[str, Any], name: str) -> bool:
    """Whether a perplexity says nothing, because z alone costs more nats than texts hold.

    So it is where z copies its text, at a small β. The nats say by how much; their exponential
    has twenty digits and no meaning.
    """
    return name in _PERPLEXITIES and (metrics.get(name) or 0) > _LARGEST


def summary_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures of a summary by itself, under their plain keys; empty if there is none."""
    found = {
        name.removeprefix(SUMMARY): value
        for name, value in metrics.items()
        if name.startswith(SUMMARY)
    }
    same = {name: value for name, value in metrics.items() if name in SAME}
    return same | found if found else {}


def whole_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures that are of use beside those of a summary by itself."""
    both = SAME | OF_BOTH
    alone = {name for name in summary_of(metrics) if name.removesuffix("_se") not in both}
    return {
        name: value
        for name, value in metrics.items()
        if name not in alone and not name.startswith(SUMMARY)
    }


def metric_rows(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value ± standard error, unit) of each known metric in a record.

    With a summary both ends are there, each under a row that says what it is for.
    """
    if not (summary := summary_of(metrics)):
        return _rows(metrics)
    whole, alone = ((name, "", "") for name in ENDS)
    return [whole, *_rows(whole_of(metrics)), alone, *_rows(summary)]


class _Figure(NamedTuple):
    """A known metric of a record."""

    key: str
    name: str
    value: float
    error: float | None
    unit: str


def _figures(metrics: dict[str, Any]) -> list[_Figure]:
    latent = metrics.get("latent_size", 1)
    hidden = set() if latent else set(_OF_THE_LATENT)
    if metrics.get("ppl_word") is not None:  # it is the one that people know
        hidden.add("bits_per_character")
    if vain(metrics, "ppl_word"):
        hidden.add("ppl_word")
    one = counted(metrics)[1].removesuffix("s")
    return [
        _Figure(
            key,
            (name if latent else name.removeprefix(_BOUND)).format(one=one),
            metrics[key],
            metrics.get(f"{key}_se"),
            unit.format(one=one),
        )
        for key, name, unit in _ROWS
        if metrics.get(key) is not None and key not in hidden
    ]


def _rows(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [
        (found.name, _shown(found.value, found.error), found.unit) for found in _figures(metrics)
    ]
    for label, found in metrics.get("per_label", {}).items():
        count = found["sentences"]
        name = f"−log p(x|{label}) of its {count:,} sentence{'' if count == 1 else 's'}"
        rows.append((name, _shown(found["nll"], found["nll_se"]), "nats per sentence"))
    return rows


def _shown(value: float, error: float | None) -> str:
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def model_card(model_type: str, run: dict[str, Any]) -> str:
    """Markdown that says what the model is, what it was trained on and how good it is."""
    settings, metrics = run.get("settings", {}), run.get("metrics", {})
    lines = [
        "---",
        metadata(model_type, run).to_yaml(),
        "---",
        f"# {model_type}",
        "",
        *_origin(run),
        "",
    ]
    if metrics:
        rows = metric_rows(metrics)
        number, many = counted(metrics)
        lines += [
            f"Measured on {number:,} validation {many} at β = 1, dropout off, "
            f"{metrics['iw_samples']} samples for the importance-weighted bound:"
            if metrics.get("latent_size", 1)
            else f"Measured on {number:,} validation {many}, dropout off:",
            "",
            "| quantity | value | unit |",
            "|---|---|---|",
            *("| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in rows),
            "",
        ]
    for section, values in settings.items():
        lines.append(f"- {section}: " + ", ".join(f"{k} = {v}" for k, v in values.items()))
    return "\n".join(lines) + "\n"


def metadata(model_type: str, run: Mapping[str, Any]) -> ModelCardData:
    """What the hub reads of a card: base models, data set, figures with their units.

    Licence and language are the user's to say; ``isthmus push`` adds them.

    Args:
        model_type: As in config.json.
        run: What ``run.json`` holds.
    """
    public = run.get("public", {})
    return ModelCardData(
        library_name="isthmus",
        tags=["text-vae", "latent-space"],
        base_model=public.get("base_models") or None,
        datasets=public.get("datasets") or None,
        pipeline_tag=_TASKS[of_record(run.get("data") or run.get("metrics", {}))],
        model_name=model_type,
        eval_results=list(_results(run)) or None,
    )


def _results(run: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Every figure of a record; those of a summary alone, and of all latents, say so."""
    metrics, source = run.get("metrics", {}), str(run.get("data", {}).get("source", "unknown"))
    parts = {"": metrics}
    if summary := summary_of(metrics):
        parts = {" (all latents)": whole_of(metrics), " (summary alone)": summary}
    number, many = counted(metrics)
    for end, part in parts.items():
        for found in _figures(part):
            if not math.isfinite(found.value):  # which YAML has, and the hub refuses
                continue
            error = {} if found.error is None else {"standard_error": found.error}
            yield EvalResult(
                task_type=_TASKS[of_record(metrics)],
                dataset_type=(run.get("public", {}).get("datasets") or [source])[0],
                dataset_name=source,
                dataset_split="validation",
                metric_type=found.key,
                metric_name=f"{found.name}, {found.unit}{end}",
                metric_value=found.value,
                metric_args={many: number, **error},
            )


def public_names(settings: Settings, source: str) -> dict[str, list[str]]:
    """The models and the data set of the hub that a run is made from, for its record.

    Only now can they be told from files: elsewhere a folder of this machine is as absent as they.

    Args:
        settings: Of the run.
        source: Of its training data.
    """
    models = {
        name
        for name in _sources(dataclasses.asdict(settings))
        if name and name not in PACKAGES and not Path(name).expanduser().exists()
    }
    name, _, split = source.rpartition("/")
    local = name == SCENES or any(Path(one).exists() for one in (name, source))
    splits = {one for names in SPLIT_NAMES.values() for one in names}
    found = {
        "base_models": sorted(models),
        "datasets": [name] if name and split.lower() in splits and not local else [],
    }
    return {key: names for key, names in found.items() if names}


def shown_source(source: str) -> str:
    """The source of the data without the folders of this machine, because runs are shared."""
    path = Path(source)
    if path.parent.suffix == ".npz":  # the split inside the file
        return f"{path.parent.name}/{path.name}"
    return path.name if path.is_absolute() else source


def _sources(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _sources(value)
        elif name in ("source", "start_from"):
            yield value


def _origin(run: dict[str, Any]) -> list[str]:
    """Where the weights come from."""
    version = run["versions"]["isthmus"]
    load = "Load it with `isthmus.Space.load`, by the name of this repository or of a folder."
    if "imported" in run:
        imported = run["imported"]
        stated = ", ".join(f"{k} = {v}" for k, v in imported.get("arguments", {}).items())
        return [
            f"A text model, imported with Isthmus {version}. {load}",
            "",
            f"Its weights are those of `{imported['checkpoint']}`, made by {imported['code']}; "
            f"trained with: {stated or 'unknown'}.",
        ]
    data = run.get("data", {})
    number, many = counted(data)
    what = of_record(data).title
    space = " with a latent space" if run.get("metrics", {}).get("latent_size", 1) else ""
    return [
        f"A {what} model{space}, trained with Isthmus {version}. {load}",
        "",
        f"Trained on `{data.get('source', 'unknown')}`: {number:,} {many}, "
        f"fingerprint `{str(data.get('fingerprint', ''))[:16]}`.",
    ]
