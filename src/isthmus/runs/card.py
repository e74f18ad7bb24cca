"""The README.md of a run directory."""

from __future__ import annotations

from typing import Any

from isthmus.data.kinds import of_record

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
    ("ppl_word", "perplexity", "per word, end of sentence counted"),
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
_OF_THE_LATENT = ("elbo", "reconstruction", "kl", "mutual_information", "active_units", "swap_gap")
_BOUND = "importance-weighted "


def counted(record: dict[str, Any]) -> tuple[int, str]:
    """How many examples a record is about, and what they are called."""
    many = f"{of_record(record).unit}s"
    return record.get(many, 0), many


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


def _rows(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    latent = metrics.get("latent_size", 1)
    hidden = set() if latent else set(_OF_THE_LATENT)
    if metrics.get("ppl_word") is not None:  # it is the one that people know
        hidden.add("bits_per_character")
    one = counted(metrics)[1].removesuffix("s")
    rows = [
        (
            (name if latent else name.removeprefix(_BOUND)).format(one=one),
            _shown(metrics[key], metrics.get(f"{key}_se")),
            unit.format(one=one),
        )
        for key, name, unit in _ROWS
        if metrics.get(key) is not None and key not in hidden
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
        "library_name: isthmus",
        "tags: [text-vae, latent-space]",
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


def _origin(run: dict[str, Any]) -> list[str]:
    """Where the weights come from."""
    version, load = run["versions"]["isthmus"], "Load it with `isthmus.load(folder)`."
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
