"""``isthmus generate`` and ``isthmus attribute``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from isthmus.commands import common
from isthmus.commands.writing import Decoding
from isthmus.errors import IsthmusError, one_line

if TYPE_CHECKING:
    from isthmus.evaluation.attribution import Attribution, TokenAttribution
    from isthmus.models.base import LatentModel
    from isthmus.models.labels import LabelSet
    from isthmus.models.text_model import TextModel

Repeated = tyro.conf.UseAppendAction[tuple[str, ...]]
NUCLEUS = Decoding(sample=True, top_p=0.95)


@dataclass(frozen=True, kw_only=True)
class Generate(common.OnRun):
    """Write texts under control codes.

    The first --code names a code of the run. A second --code can add free text to it, as in --code
    Reviews --code "Rating: 5.0". Codes with weights are mixed, as in --code Books=0.7 --code
    Reviews=0.3. --label also names a single code: give --code or --label, not both. Without
    either, the code of each text is drawn from p(c). If the run has a latent, z is drawn from its
    prior. The unknown-word token is never written.
    """

    run_directory: common.RunDirectory
    """A run directory, trained with labels (--recipe ctrl, or --model.labels given)."""
    code: Repeated = ()
    """A control code, or free text after one."""
    prompt: str = ""
    """The beginning of every text."""
    count: int = 5
    """Number of texts."""
    exempt: Repeated = ()
    """A text whose tokens are never penalised. Line breaks are always exempt."""
    seed: int = 0
    """Seed of latents, codes and sampling."""
    json: bool = False
    """Print JSON Lines with code (empty if the codes were drawn), prompt and text."""
    decoding: tyro.conf.OmitArgPrefixes[Decoding] = NUCLEUS

    def run(self) -> None:
        common.check_positive(count=self.count)
        if self.code and self.decoding.label:
            raise IsthmusError("--code and --label mean the same; give only one of them")
        generation = self.decoding.settings(self.seed)
        refuse_pictures(self.run_directory)
        from isthmus.explore.walks import sample, unwritten
        from isthmus.models.text_model import text_model

        model = text_model(self.load())
        asked = self.requested(model)
        self.warn(model, asked.get("detail", ""))
        generation = replace(
            generation,
            prompt=self.prompt,
            banned=unwritten(model),
            exempt=tuple(id_ for text in ("\n", *self.exempt) for id_ in model.codec.ids(text)),
            **asked,
        )
        with common.bar("writing", self.count) as progress:
            texts = sample(model, self.count, self.seed, generation, progress)
        code = list(self.code or filter(None, [self.decoding.label]))
        records = [{"code": code, "prompt": self.prompt, "text": text} for text in texts]
        common.emit(records, self.json, "{text}")

    def warn(self, model: TextModel, detail: str) -> None:
        """Report on standard error which parts of the request the model cannot follow."""
        from isthmus.models.labels import label_set

        for name, text in (("code", detail), ("prompt", self.prompt)):
            warn_unknown(model, name, text)
        trained = label_set(model).separator or model.codec.decoder_special.end is None
        if detail and not trained:
            common.console().print(
                f"code: {detail!r} is free text after a code, but this run was trained without "
                "such text (--data.code-separator)",
                markup=False,
            )

    def requested(self, model: LatentModel) -> dict[str, Any]:
        """The fields of a generation that --code sets."""
        if not self.code:
            return {}
        from isthmus.control.codes import CodeBook

        known = known_codes(model, self.run_directory)
        mixture = CodeBook(known.names, known.separator).requested(self.code)
        [first, *others] = mixture.codes
        if not others:
            return {"label": first.name, "detail": first.detail}
        if any(code.detail for code in mixture.codes):
            raise IsthmusError("--code: codes with weights take no free text; leave it out")
        each = zip(mixture.codes, mixture.weights, strict=True)
        return {"mixture": tuple((code.name, weight) for code, weight in each)}


def known_codes(model: LatentModel, run: str) -> LabelSet:
    """The codes of a run, which must have some."""
    from isthmus.models.labels import label_set

    known = label_set(model)
    if not known.read_names:
        raise IsthmusError(
            f"{run}: has no control codes; train a run with --recipe ctrl on labelled texts"
        )
    return known


def refuse_pictures(run: str) -> None:
    """Control codes are for texts."""
    if common.kind_of_run(run).has_pictures:
        raise IsthmusError(f"{run}: is a picture run, expected a run on texts with labels")


def warn_unknown(model: TextModel, name: str, text: str) -> None:
    """Report on standard error how many tokens the model cannot read."""
    ids, unknown = model.codec.ids(text), model.codec.decoder_tokenizer.unk_token_id
    if count := sum(token == unknown for token in ids):
        common.console().print(
            f"{name}: {count} of {len(ids)} tokens are unknown to the vocabulary"
        )


@dataclass(frozen=True, kw_only=True)
class Attribute(common.Spread, common.OnCorpus):
    """Predict the control code of texts, p(c|x) ∝ p(c) p(x|c), and compute log p(x).

    If DATA has labels, standard error shows the accuracy and calibration of the predictions.
    """

    run_directory: common.RunDirectory
    """A run directory, trained with labels (--recipe ctrl, or --model.labels given)."""
    prior: Literal["uniform", "stored"] = "uniform"
    """p(c): uniform, or the frequencies in the training data, which favour frequent codes."""
    samples: int = 10
    """K, the number of draws of z for log p(x|c), if the run has a latent."""
    tokens: bool = False
    """Colour each token by the code that it favours; in JSON, add the figures of every token."""
    out: str = ""
    """A .png file for a reliability diagram; DATA must have labels."""
    json: bool = False
    """Print JSON Lines with code, probability, posterior, log-likelihoods, log p(x) and text."""

    def run(self) -> None:
        common.check_positive(samples=self.samples)
        refuse_pictures(self.run_directory)
        common.check_on(self.on)
        picture = common.check_can_write(self.out) if self.out else None
        corpus = common.read_corpus(self.data, self.limit)
        if picture and corpus.labels is None:
            raise IsthmusError(f"--out: {self.data} has no labels to compare the codes with")
        model = self.load()
        known = known_codes(model, self.run_directory)
        from isthmus.evaluation.attribution import attribute, attribute_tokens

        truth = None if corpus.labels is None else _places(known, corpus.labels)
        with self.workers() as workers, common.bar("attributing", len(corpus)) as progress:
            found = attribute(model, corpus.texts, self.prior, self.samples, progress, workers)
        if truth is not None:
            _report(found, truth, self.prior, picture)
        each = attribute_tokens(model, corpus.texts, self.prior) if self.tokens else []
        records = _records(found, corpus.texts, each)
        if self.tokens and not self.json:
            _coloured(found.names, each)
        else:
            common.emit(records, self.json, "{code}\t{probability:.3f}\t{text}")


def _records(
    found: Attribution, texts: list[str], tokens: list[TokenAttribution]
) -> list[dict[str, Any]]:
    """One record per text."""
    records: list[dict[str, Any]] = []
    posteriors = found.log_posterior.exp().tolist()
    rows = zip(
        texts, posteriors, found.log_likelihood.tolist(), found.log_marginal.tolist(), strict=True
    )
    for text, posterior, likelihood, marginal in rows:
        probability = max(posterior)
        records.append(
            {
                "code": found.names[posterior.index(probability)],
                "probability": probability,
                "posterior": dict(zip(found.names, posterior, strict=True)),
                "log_likelihood": dict(zip(found.names, likelihood, strict=True)),
                "log_marginal": marginal,
                "text": text,
            }
        )
    # Empty without --tokens.
    for record, each in zip(records, tokens, strict=False):
        record |= {
            "tokens": each.tokens,
            "token_log_likelihood": each.log_likelihood.tolist(),
            "token_log_posterior": each.log_posterior.tolist(),
        }
    return records


def _places(known: LabelSet, labels: list[str]) -> list[int] | None:
    """The place of the true code of each text; None for clusters, which no label names."""
    from isthmus.data.labelled import label_index, split_label

    if known.clusters:
        return None
    names = [split_label(label, known.separator)[0] for label in labels]
    return [label_index(name, known.names, "code") for name in names]


def _report(found: Attribution, places: list[int], prior: str, picture: Path | None) -> None:
    """Report accuracy and calibration on standard error, and draw the calibration."""
    import torch

    from isthmus.evaluation.calibration import (
        calibrated_error,
        expected_calibration_error,
        reliability,
    )
    from isthmus.evaluation.usage import Estimate

    truth = torch.tensor(places)
    posterior = found.log_posterior
    accuracy = Estimate.mean_of((posterior.argmax(-1) == truth).double())
    error, perfect = expected_calibration_error(posterior, truth), calibrated_error(posterior)
    out = common.console()
    out.print(common.accuracy_line(accuracy, "text"))
    out.print(
        f"calibration error (ECE): {error.value:.4f}; a perfect posterior would have "
        f"{perfect.value:.4f} on {perfect.count:,} texts"
    )
    if picture is not None:
        from isthmus.evaluation.plots import reliability_plot

        reliability_plot(reliability(posterior, truth), f"codes, {prior} prior", picture)
        out.print(f"reliability diagram: {picture}", markup=False)


def _coloured(names: tuple[str, ...], texts: list[TokenAttribution]) -> None:
    """Print texts, each token in the colour of the code that it favours."""
    from rich.console import Console
    from rich.text import Text

    colours = ("red", "green", "yellow", "blue", "magenta", "cyan")
    styles = [f"{'bold ' * (i // 6)}{colours[i % 6]}" for i in range(len(names))]
    out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    legend = Text()
    for name, style in zip(names, styles, strict=True):
        legend.append(f"{name} ", style=style)
    out.print(legend)
    for text in texts:
        line = Text()
        for token, evidence in zip(text.tokens, text.evidence, strict=True):
            best = int(evidence.argmax())
            # Evidence below half a nat is too weak to favour a code.
            line.append(one_line(token), style=styles[best] if evidence[best] > 0.5 else "")
        out.print(line)
