"""Two phases in one command: what the second takes over, and a run killed in either of them."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from test_stopping import assert_same_run, start, wait_for

from isthmus.data.corpus import read_splits
from isthmus.models.build import build
from isthmus.runs.bundle import load, read_run
from isthmus.settings import load_recipe
from isthmus.training.phases import first_settings, take_over

PHASES = ["--first.epochs", "3", "--train.steps", "30", "--train.evaluations", "3"]
LSTM_DECODER = ["--model.decoder.architecture", "lstm", "--model.bridge", "state+input"]
LSTM = [*LSTM_DECODER, "--model.encoder.architecture", "lstm", "--model.encoder.pooling", "last"]


def encoder_of(folder):
    weights = load_file(folder / "model.safetensors")
    return {name: value for name, value in weights.items() if name.startswith("encoder.")}


@pytest.fixture(scope="module")
def words(recipe, corpus):
    return ["train", corpus, "--recipe", recipe, *PHASES, *LSTM]


@pytest.fixture(scope="module")
def untouched(isthmus, words, tmp_path_factory):
    run = tmp_path_factory.mktemp("untouched") / "run"
    done = isthmus(*words, "--out", run)
    assert done.code == 0, done.err
    assert "first phase, 3 epochs at β = 0" in done.err
    return run


def test_the_first_phase_is_a_run_that_can_be_opened(untouched):
    first = read_run(untouched / "first-phase")
    assert first["steps"] == 3 * 8  # 120 sentences, 16 in a batch
    assert first["settings"]["objective"]["beta"] == 0
    assert read_run(untouched)["steps"] == 30
    assert load(untouched / "first-phase").decode(torch.zeros(1, 4))


@pytest.mark.parametrize("kind", ["lstm", "gpt2"])
@pytest.mark.parametrize("keeps", ["encoder", "all"])
def test_what_the_second_phase_starts_with(kind, keeps, recipe, corpus):
    """The encoder is the first phase's bit for bit, the decoder as it would be from nothing."""
    settings = load_recipe(str(recipe))
    if kind == "lstm":
        encoder = dataclasses.replace(settings.model.encoder, architecture="lstm", pooling="last")
        decoder = dataclasses.replace(settings.model.decoder, architecture="lstm")
        model = dataclasses.replace(
            settings.model, encoder=encoder, decoder=decoder, bridge="state+input"
        )
        settings = dataclasses.replace(settings, model=model)
    texts = read_splits(str(corpus)).train.texts
    first, fresh, model = (build(settings, texts) for _ in range(3))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    take_over(model, first, keeps)
    trained, drawn, found = (each.state_dict() for each in (first, fresh, model))
    for name, value in found.items():
        from_first = keeps == "all" or name.startswith("encoder.")
        assert torch.equal(value, (trained if from_first else drawn)[name]), name
    assert any(not torch.equal(trained[name], drawn[name]) for name in found)


@pytest.mark.parametrize("place", ["first-phase/checkpoints/checkpoint-8", "checkpoints"])
def test_killed_in_either_phase(place, isthmus, words, untouched, tmp_path):
    run = tmp_path / "run"
    process = start(words, run)
    wait_for(run / place, process)
    process.kill()
    process.communicate()
    assert isthmus("sample", run).code == 1
    resumed = isthmus(*words, "--out", run, "--resume")
    assert resumed.code == 0, resumed.err
    assert_same_run(run, untouched)
    one, two = encoder_of(run / "first-phase"), encoder_of(untouched / "first-phase")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_first_phase_of_the_encoder_alone_freezes_the_decoder(recipe):
    settings = load_recipe(str(recipe))
    first = dataclasses.replace(settings.first, epochs=1.0, trains="encoder")
    frozen = first_settings(dataclasses.replace(settings, first=first))
    assert frozen.model.decoder.tuning == "frozen"
    assert frozen.first.epochs == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--train.start-from", "other"], "train.start_from gives all weights"),
        (
            ["--model.kind", "pictures-with-captions"],
            "--first.epochs: a pictures",
        ),
    ],
)
def test_a_first_phase_that_would_be_lost(isthmus, words, tmp_path, flags, said):
    refused = isthmus(*words, *flags, "--out", tmp_path / "run")
    assert refused.code in (1, 2)
    assert said in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "run").exists()


def test_encoder_from_a_language_model(isthmus, recipe, corpus, tmp_path):
    words = ["train", corpus, "--recipe", recipe, "--train.steps", "2"]
    plain, run = tmp_path / "plain", tmp_path / "run"
    kind = ["--model.kind", "language-model", *LSTM_DECODER]
    assert isthmus(*words, "--out", plain, *kind).code == 0
    words += LSTM
    rate = ["--train.learning-rate", "1e-12", "--model.encoder.start-from", plain]
    assert isthmus(*words, "--out", run, *rate).code == 0
    learned = load(plain).decoder.model.base_model.state_dict()
    taken = load(run).encoder.model.state_dict()
    for name, value in learned.items():
        torch.testing.assert_close(taken[name], value)
    wider = isthmus(*words, "--out", tmp_path / "w", *rate, "--model.encoder.hidden-size", "16")
    assert wider.code == 1
    assert "is not this encoder's" in wider.err
    fewer = isthmus(*words, "--out", tmp_path / "f", *rate, "--data.vocabulary-size", "40")
    assert fewer.code == 1
    assert "has another vocabulary" in fewer.err
