"""Runs on the hub: what is sent and fetched, what is said, and one line for every refusal."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants

import isthmus
from hub_server import READER, WRITER, Hub, serving
from isthmus.cli import main
from isthmus.errors import IsthmusError
from isthmus.runs import bundle
from isthmus.runs.hub import local, title
from isthmus.runs.push import push
from tiny import TEXTS, make, system

# The hub's own client uses its HTTP library in an old way when it sends by LFS.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "me/reviews"
RECORD = {
    "settings": {"model": {"latent_size": 3}},
    "data": {"source": "stanfordnlp/imdb/train", "sentences": 6, "fingerprint": "f" * 64},
    "public": {"base_models": ["openai-community/gpt2"], "datasets": ["stanfordnlp/imdb"]},
    "metrics": {"sentences": 6, "iw_samples": 10, "elbo": -4.25, "elbo_se": 0.5, "kl": 1.0},
}


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with serving() as found:
        use(monkeypatch, found.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield found


def use(monkeypatch, address: str) -> None:
    """As HF_ENDPOINT, which is read once."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def run(tmp_path) -> Path:
    bundle.save(make(), tmp_path / "run", RECORD)
    return tmp_path / "run"


def refusal(call) -> str:
    with pytest.raises(IsthmusError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_comes_back_as_it_went(hub, run, caplog):
    (run / "secrets.txt").write_text("mine")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "optimizer.pt").write_bytes(b"a pickle")
    address = push(run, NAME)
    assert address == f"{hub.address}/{NAME}/commit/{hub.revision(NAME)}"
    files = hub.repositories[NAME]
    listed = json.loads((run / "run.json").read_text())["files"]
    assert files.keys() == {*listed, "run.json", ".gitattributes"}
    caplog.clear()
    fetched = isthmus.load(NAME)
    here = isthmus.load(run)
    assert fetched.encode(TEXTS).mean.equal(here.encode(TEXTS).mean)
    size = sum(len(files[one]) for one in listed) / 1e3
    assert f"{len(listed)} files ({size:,.1f} kB)" in caplog.text
    assert hub.address in caplog.text
    caplog.clear()
    hub.requests.clear()
    isthmus.load(NAME)
    assert "fetched before" in caplog.text
    assert all(path.startswith("/api/") or "run.json" in path for _, path in hub.requests)


def test_commands_take_names(hub, run, tmp_path, capsys, monkeypatch):
    (tmp_path / "texts.txt").write_text("a b c\nc\n")
    assert main(["push", "run", NAME, "--license", "mit", "--language", "en"]) == 0
    assert f"{NAME}/commit/" in capsys.readouterr().out
    assert main(["check", NAME]) == 0
    assert "whole" in capsys.readouterr().out
    monkeypatch.setenv("HF_TOKEN", "")
    outputs = []
    for place in (NAME, "run", str(local(NAME))):  # the last is a snapshot in the cache
        assert main(["encode", place, "texts.txt"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2] != ""
    assert title(local(NAME)) == NAME
    assert title(tmp_path / "run") == "run"


def test_a_space_goes_and_comes_back(hub, run):
    space = isthmus.Space.load(run)
    assert f"{NAME}/commit/" in space.push(NAME, license="mit", language=["en"])
    back = isthmus.Space.load(NAME)
    assert (back.embed(TEXTS) == space.embed(TEXTS)).all()
    assert back.metrics == space.metrics
    card = ModelCard(hub.repositories[NAME]["README.md"].decode())
    assert (card.data.license, card.data.base_model) == ("mit", ["openai-community/gpt2"])


def test_the_card_is_valid_and_has_units(hub, run):
    push(run, NAME, licence="apache-2.0", languages=["en", "de"])
    card = ModelCard(hub.repositories[NAME]["README.md"].decode())
    data = card.data
    assert (data.license, data.language, data.library_name) == (
        "apache-2.0",
        ["en", "de"],
        "isthmus",
    )
    assert data.base_model == ["openai-community/gpt2"]
    assert data.datasets == ["stanfordnlp/imdb"]
    figures = {one.metric_type: one for one in data.eval_results}
    assert figures.keys() == {"elbo", "kl"}
    assert figures["elbo"].metric_value == -4.25
    assert figures["elbo"].metric_name == "ELBO, nats per sentence"
    assert figures["elbo"].metric_args == {"sentences": 6, "standard_error": 0.5}
    assert "| ELBO | -4.250 ± 0.500 | nats per sentence |" in card.text


def test_what_users_write_in_the_card_stays(hub, run, caplog):
    path = run / "README.md"
    push(run, NAME)
    assert "the card names no license: add --license, or license: in" in caplog.text
    path.write_text(path.read_text().replace("---\n", "---\nlicense: mit\n", 1) + "My words.\n")
    push(run, NAME, languages=["en"])
    card = ModelCard(hub.repositories[NAME]["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.base_model == ["openai-community/gpt2"]
    assert card.text.endswith("My words.\n")
    path.write_text("---\na: [\n---\n")
    assert "README.md: the lines between --- are no metadata" in refusal(lambda: push(run, NAME))


def test_a_second_push_takes_the_place_of_the_first(hub, run, tmp_path):
    push(run, NAME)
    hub.repositories[NAME]["notes.md"] = b"of their owner"
    before = {*hub.repositories[NAME]}
    bundle.save(system("picture"), tmp_path / "pictures", {**RECORD, "data": {"pictures": 2}})
    push(tmp_path / "pictures", NAME)
    after = {*hub.repositories[NAME]}
    assert "tokenizer.json" in before
    assert "tokenizer.json" not in after
    assert "notes.md" in after
    assert isthmus.load(NAME).kind.name == "picture"


def test_nothing_else_is_overwritten(hub, run):
    hub.repositories[NAME] = {".gitattributes": b"", "pytorch_model.bin": b"of something else"}
    assert "with pytorch_model.bin in it, and it is no Isthmus run" in refusal(
        lambda: push(run, NAME)
    )
    assert len(hub.repositories[NAME]) == 2
    assert "expected owner/name" in refusal(lambda: push(run, "reviews"))


def test_a_damaged_run_is_not_sent(hub, run):
    path = run / "config.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert "config.json changed since the run was written" in refusal(lambda: push(run, NAME))
    assert not hub.repositories


def test_who_is_not_known_or_not_allowed_reads_why(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    assert "(401); log in with: hf auth login, or set HF_TOKEN" in refusal(lambda: push(run, NAME))
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "the hub forbids it (403)" in refusal(lambda: push(run, NAME))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    push(run, NAME, private=True)
    assert isthmus.load(NAME).encode(TEXTS)
    monkeypatch.setenv("HF_TOKEN", "")
    said = refusal(lambda: isthmus.load(NAME))
    assert "the hub has none that you may read (401)" in said
    assert "HF_TOKEN" in said


def test_what_is_no_run_is_not_fetched(hub, run):
    hub.repositories["them/bert"] = {"config.json": b"{}", "model.safetensors": b""}
    assert "not an Isthmus run" in refusal(lambda: isthmus.load("them/bert"))
    for listed, why in (
        (b"[1]", "lists no files"),
        (b'{"files": {"model.safetensors": 1, "optimizer.pt": 1}}', "lists optimizer.pt"),
        (b'{"files": {"../model.json": 1}}', "lists ../model.json"),
    ):
        hub.repositories["them/bert"]["run.json"] = listed
        assert why in refusal(lambda: isthmus.load("them/bert"))
    assert not any("model.safetensors" in path for _, path in hub.requests)


def test_a_folder_goes_before_a_name(hub, run, tmp_path, caplog):
    push(run, NAME)
    (tmp_path / "me").mkdir()
    run.rename(tmp_path / NAME)
    hub.requests.clear()
    isthmus.load(NAME)
    assert not caplog.text.count("the folder here")  # nothing else of that name was ever used
    assert not hub.requests
    (tmp_path / NAME).rename(tmp_path / "run")
    isthmus.load(NAME)
    (tmp_path / "run").rename(tmp_path / NAME)
    hub.requests.clear()
    isthmus.load(NAME)
    assert f"{NAME}: the folder here, not the run of that name fetched before" in caplog.text
    assert not hub.requests


def test_without_the_hub_the_last_copy_serves(hub, run, monkeypatch, caplog):
    (run.parent / "me").mkdir()
    (run.parent / "me" / "review").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = refusal(lambda: isthmus.load(NAME))
    assert "no such folder (near it in me: review)" in said
    assert "HF_HUB_OFFLINE" in said
    assert "HF_HUB_OFFLINE" in refusal(lambda: push(run, NAME))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    use(monkeypatch, nowhere)
    assert f"{nowhere} does not answer" in refusal(lambda: isthmus.load(NAME))
    use(monkeypatch, hub.address)
    push(run, NAME)
    mean = isthmus.load(NAME).encode(TEXTS).mean
    use(monkeypatch, nowhere)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(isthmus.load(NAME).encode(TEXTS).mean, mean)
    assert "no answer; revision" in caplog.text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(isthmus.load(NAME).encode(TEXTS).mean, mean)
