"""A bar with the time left on a terminal, plain lines without one, nothing left behind."""

import io
import json
import re

import torch
from rich.console import Console
from transformers import TrainerState

from isthmus import progress
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import TermsOutput
from isthmus.progress import JsonLinesLog, counting
from isthmus.training.meter import Meter
from isthmus.training.terminal import TerminalCallback
from tiny import system


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)


def lines() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=120, soft_wrap=True)


def test_training_shows_a_bar_with_the_time_left(make, tmp_path):
    out = terminal()
    callback = TerminalCallback(out)
    with callback.bar:
        make(tmp_path / "run", callbacks=[callback], train={"steps": 6, "log_every": 2})
    shown = out.file.getvalue()
    assert re.search(r"training.*6/6.*\d:\d\d:\d\d.*rec \d+\.\d\d KL \d+\.\d\d β \d\.\d\d", shown)
    assert shown.count("bound at β = 1") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor must come back"


def test_training_prints_lines_without_a_terminal(make, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
    out = lines()
    callback = TerminalCallback(out)
    with callback.bar:
        make(tmp_path / "run", callbacks=[callback], train={"steps": 6, "log_every": 2})
    shown = out.file.getvalue()
    assert re.findall(r"step +(\d) of 6 .* tok/s  (\d+) s left\n", shown)[-1] == ("6", "0")
    assert "\x1b" not in shown


def test_a_model_without_a_latent_has_a_likelihood_and_no_bound():
    out, state = lines(), TrainerState(max_steps=4, global_step=2)
    callback = TerminalCallback(out)
    callback.on_train_begin(None, state, None, model=system("language"))
    callback.on_log(None, state, None, {"eval_elbo": -12.5, "eval_kl": 0.0})
    assert out.file.getvalue() == "step      2  −log p(x) 12.50\n"


def test_predicted_tokens_and_all_values_of_pictures_are_counted():
    nothing = torch.zeros(2, 1)
    output = TermsOutput(nothing[:, 0], nothing, (nothing, nothing), nothing)
    meter = Meter(DiagonalGaussian)
    meter.add(output, {"targets": torch.tensor([[5, 0, -100], [7, -100, -100]])})
    assert meter.tokens == 3
    meter.add(output, {"targets": torch.zeros(2, 4, dtype=torch.uint8)})
    assert meter.tokens == 3 + 8


def test_the_log_gives_a_label_the_texts_that_were_read_under_it():
    losses, nothing = torch.tensor([1.0, 2, 4, 8]), torch.zeros(4, 1)
    meter = Meter(DiagonalGaussian, ["a", "b", "c"])
    batch = {"targets": torch.ones(4, 1), "labels": torch.tensor([0, 0, 1, -1])}
    dropped = {"dropped": torch.tensor([False, True, False, False])}
    meter.add(TermsOutput(losses, nothing, (nothing, nothing), nothing), batch | dropped)
    values, lists = meter.summary(lambda sums: sums)
    assert values["reconstruction"] == 15 / 4
    assert lists["reconstruction_per_label"] == {"a": 1, "b": 4, "c": None}


def test_counting_is_rare_without_a_terminal_and_a_bar_on_one(monkeypatch):
    silent = lines()
    with counting(silent, "encoding", 3) as advance:
        advance(2)
    assert silent.file.getvalue() == "", "work of less than ten seconds is not worth a line"
    monkeypatch.setattr(progress, "_EVERY_SECONDS", 0.0)
    spoken = lines()
    with counting(spoken, "encoding", 3) as advance:
        advance(1)
        advance(2)
    assert spoken.file.getvalue().splitlines()[-1] == "encoding 3 of 3  0 s left"
    shown = terminal()
    with counting(shown, "decoding", 4) as advance:
        advance(4)
    assert re.search(r"decoding.*4/4", shown.file.getvalue())


def test_resuming_takes_lost_and_cut_lines_out_of_the_log(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [json.dumps({"step": step}) for step in (1, 2, 3, 4)]
    path.write_text("\n".join(rows) + '\n{"step": 5, "lo', encoding="utf-8")
    JsonLinesLog(path, 2).write({"step": 3, "new": True})
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert kept == [{"step": 1}, {"step": 2}, {"step": 3, "new": True}]
    JsonLinesLog(path, 0)
    assert path.read_text(encoding="utf-8") == ""
