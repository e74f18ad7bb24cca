"""Whatever a user gives by mistake is answered in one line that says what to do."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.files import READERS
from isthmus.errors import IsthmusError
from isthmus.settings import Settings, from_dict, load_recipe


def refusal(result, *parts, code=1):
    """The one line of a refusal; reports of what was read may come before it."""
    assert result.code == code, result
    *before, last = result.err.splitlines()
    assert last.startswith("isthmus: "), result.err
    assert not [line for line in before if line.startswith(("isthmus:", "Traceback", "  File"))]
    assert result.out == ""
    for part in parts:
        assert part in last, last
    return last


@pytest.fixture
def train(isthmus, recipe, tmp_path):
    """Train on the content of a file for two steps."""

    def train(content: bytes | str, *words, name="texts.txt", out=None):
        data = tmp_path / name
        data.write_bytes(content.encode() if isinstance(content, str) else content)
        place = tmp_path / "run" if out is None else out
        return isthmus(
            "train", data, "--recipe", recipe, "--out", place, "--train.steps", "2", *words
        )

    return train


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["texts.txt is empty (0 bytes)", "expected one text per line"]),
        (b"\n  \n\n", ["has no text, only 3 empty lines"]),
        (b"a small ball\n", ["one sentence only", "at least 2"]),
        (b"a small ball\na box\n", ["at least 2 sentences after some are held out", "got 1"]),
        (b"a small ball\n\xff\xfe box\n", ["line 2 is not UTF-8", "iconv"]),
        (b"a ball\na b\0x\na box\n", ["line 2 has a NUL byte"]),
    ],
)
def test_texts_that_cannot_be_trained_on(train, tmp_path, content, parts):
    refusal(train(content), *parts)
    assert not (tmp_path / "run").exists()


def test_labels_missing_in_some_lines(train):
    content = "big\ta ball\na box\nsmall\ta cube\n"
    refusal(train(content, name="texts.tsv"), "1 of 3 texts have no label", "line 2")


def test_equal_sentences_are_warned_of_and_trained_on(train):
    result = train("a small ball\n" * 20)
    assert result.code == 0, result.err
    assert "sentences are equal" in result.err


def test_a_vocabulary_of_one_word_trains(train):
    result = train("ball\n" * 10 + "ball ball\n" * 10)
    assert result.code == 0, result.err


def test_a_line_of_ten_megabytes_is_cut_and_counted(train):
    result = train("a ball\n" * 20 + "ball " * 2_000_000 + "\na box\n")
    assert result.code == 0, result.err
    assert "1 text cut" in result.err


def test_folders_that_cannot_be_written(train, tmp_path):
    (tmp_path / "file").write_text("")
    texts = "a small ball\na large box\na red cube\n"
    below_file = tmp_path / "file" / "run"
    refusal(train(texts, out=below_file), f"{below_file}: cannot be written", "--out")
    refusal(train(texts, out="/proc/run"), "/proc/run: cannot be written", "--out")
    refusal(train(texts, out=tmp_path / "file"), "exists already", "choose another folder")


def test_an_existing_run_is_not_overwritten(isthmus, trained, recipe, corpus):
    run, _ = trained
    before = (run / "run.json").read_bytes()
    words = ["train", corpus, "--recipe", recipe, "--out", run]
    refusal(isthmus(*words), "exists already; continue it with --resume")
    refusal(isthmus(*words, "--resume"), "the run is finished")
    assert (run / "run.json").read_bytes() == before


def test_nothing_to_resume(isthmus, recipe, corpus, tmp_path):
    words = ["train", corpus, "--recipe", recipe, "--resume", "--out"]
    refusal(isthmus(*words, tmp_path / "none"), "nothing to resume", "omit --resume")
    (tmp_path / "settings.json").write_text("{", encoding="utf-8")
    refusal(isthmus(*words, tmp_path), "settings.json: damaged")
    old = {"settings": {"model": {"latent": "gaussian", "latent_size": 4}}}
    (tmp_path / "settings.json").write_text(json.dumps(old), encoding="utf-8")
    refusal(isthmus(*words, tmp_path), "its settings are of version 0.1.0", "another folder")


def test_a_failed_start_leaves_the_folder_to_the_corrected_command(train):
    texts = "a small ball\na large box\na red cube\n"
    refusal(train(texts, "--model.encoder.heads", "5"), "heads")
    refusal(train(texts, "--objective.zero", "0.9", "--objective.ramp", "0.9"), "objective: ")
    assert train(texts).code == 0


def test_a_run_without_a_checkpoint_is_started_again_with_other_settings(train, tmp_path):
    texts = "a small ball\na large box\na red cube\n" * 4
    wrong = ["--train.steps", "6", "--train.evaluations", "1", "--train.learning-rate", "1e30"]
    refusal(train(texts, *wrong), "not finite; lower --train.learning-rate")
    refusal(
        train(texts, *wrong[:4], "--resume"),
        "train.learning_rate: 1e+30 there",
        "or omit --resume",
    )
    with held(tmp_path / "run"):
        refusal(train(texts), "another process is training there")
    corrected = train(texts)
    assert corrected.code == 0, corrected.err
    assert "starting anew; the run there had completed no checkpoint" in corrected.err
    with held(tmp_path / "run"):  # finished or not, that it is in use comes first
        refusal(train(texts), "another process is training there")
    assert len(list((tmp_path / "run").glob("tensorboard/*"))) <= 1
    refusal(train(texts, "--train.clip", "1"), "exists already; continue it with --resume")


@contextmanager
def held(folder):
    """Hold a folder as a process that trains in it does."""
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    os.close(handle)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--train.steps", "-1"], ["train.steps must be ≥ 0, got -1"]),
        (["--train.evaluations", "0"], ["train.evaluations must be ≥ 1, got 0"]),
        (["--train.log-every", "0"], ["train.log_every must be ≥ 1, got 0"]),
        (["--train.learning-rate", "0"], ["train.learning_rate must be > 0, got 0"]),
        (["--train.learning-rate", "nan"], ["train.learning_rate must be > 0, got nan"]),
        (["--train.accumulation", "0"], ["train.accumulation must be ≥ 1"]),
        (["--train.tokens-per-batch", "0"], ["train.tokens_per_batch must be ≥ 1"]),
        (["--train.epochs", "0"], ["train.epochs must be > 0"]),
        (["--train.warmup", "1.5"], ["train.warmup must be from 0 to below 1, got 1.5"]),
        (["--train.clip", "-1"], ["train.clip must be ≥ 0"]),
        (["--train.seed", "-1"], ["train.seed must be from 0 to 2³² − 1, got -1"]),
        (["--model.latent-size", "0"], ["model.latent_size must be ≥ 1, got 0"]),
        (["--model.encoder.layers", "-2"], ["model.encoder.layers must be ≥ 1, got -2"]),
        (["--model.decoder.dropout", "1"], ["model.decoder.dropout must be from 0 to below 1"]),
        (["--model.bridge", "memroy"], ["bridge", "memroy", "memory"]),
        (["--model.encoder.architecture", "brt"], ["brt"]),
        (["--model.encoder.tuning", "frozen"], ["this one is fresh", "--model.encoder.source"]),
        (["--data.maximum-length", "2"], ["data.maximum_length must be ≥ 3"]),
        (["--data.vocabulary-size", "0"], ["data.vocabulary_size must be ≥ 1"]),
        (["--data.limit", "-4"], ["data.limit must be ≥ 0, got -4"]),
        (["--data.word-dropout", "1.2"], ["data.word_dropout must be from 0 to 1, got 1.2"]),
        (["--objective.beta", "-1"], ["objective.beta must be ≥ 0"]),
        (["--objective.free-bits", "inf"], ["objective.free_bits must be ≥ 0, got inf"]),
        (["--train.start-from", "/nowhere"], ["/nowhere: no such run directory"]),
        (["--recipe", "demmo"], ["recipe: got 'demmo', expected one of chunks, codebook"]),
        (["--recipe", "none.toml"], ["recipe: none.toml does not exist"]),
        (["--recipe", "optimus-tiny"], ["./decoder: no such file", "--model.decoder.source"]),
    ],
)
def test_settings_without_sense(train, tmp_path, words, parts):
    refusal(train("a small ball\na large box\na red cube\n", *words), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[model]\nlatent_szie = 3", "unknown setting 'latent_szie'; did you mean latent_size?"),
        ("[modle]", "unknown setting 'modle'; did you mean model?"),
        ("[model]\nlatent_size = 'many'", "latent_size: got 'many', expected a whole number"),
        ("[model]\nencoder = 3", "encoder: expected a table of settings, got 3"),
        ("[train]\nsteps = true", "steps: got True, expected a whole number"),
        ("[train]\nkeep = 'first'", "keep: got 'first', expected one of best, last"),
        ("[train]\nsteps = -5", "train.steps must be ≥ 0, got -5"),
        ("[train\nsteps", "is not TOML"),
        (b"[train]\n# \xff", "cannot be read"),
    ],
)
def test_recipes_with_mistakes(isthmus, tmp_path, text, part):
    path = tmp_path / "my.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refusal(isthmus("train", "scenes", "--recipe", path, "--out", tmp_path / "run"), part)


def test_settings_survive_a_round_trip_and_whole_numbers_serve_as_floats():
    demo = load_recipe("demo")
    import dataclasses

    assert from_dict(Settings, dataclasses.asdict(demo), "again") == demo
    assert from_dict(Settings, {"objective": {"beta": 1}}, "x").objective.beta == 1.0
    with pytest.raises(IsthmusError, match="decoder, options: got 3, expected a table"):
        from_dict(Settings, {"model": {"decoder": {"options": 3}}}, "x")


def test_runs_that_are_not_whole(isthmus, run, corpus, tmp_path):
    refusal(isthmus("evaluate", tmp_path / "none", corpus), "no such run directory")
    refusal(isthmus("evaluate", tmp_path, corpus), "has no run.json")
    (tmp_path / "checkpoints").mkdir()
    refusal(isthmus("evaluate", tmp_path, corpus), "was not finished", "--resume")
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refusal(isthmus("sample", broken), "model.safetensors: truncated", "restore it")


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("z.jsonl", b"", ["no latents in it"]),
        ("z.jsonl", b"[1, 2]\n", ["expected latents as encode writes them"]),
        ("z.jsonl", b'{"text": "a"}\n', ["expected latents", "mean"]),
        ("z.jsonl", b'{"mean": ["a", "b", "c", "d"]}\n', ["could not convert string to float"]),
        ("z.jsonl", b'{"mean": [null, 1, 2, 3]}\n', ["NaN or infinity", "number 1"]),
        ("z.jsonl", b'{"mean": [1, 2, NaN, 4]}\n', ["1 of 1 latents hold NaN", "number 1"]),
        ("z.jsonl", b'{"mean": [1, 2, 3]}\n', ["shape [3]", "the run has [4]"]),
        ("z.jsonl", b'{"mean": [1, 2, 3, 4]}\n{"mean": [1, 2]}\n', ["expected latents"]),
        ("z.jsonl", b"\xff\xfe\n", ["expected latents", "utf-8"]),
        ("z.npz", b"PK\x03\x04 not a zip", ["not an .npz file"]),
        ("z.npz", b"", ["not an .npz file"]),
    ],
)
def test_latents_that_are_none(isthmus, run, tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    refusal(isthmus("decode", run, tmp_path / name), *parts)


def test_latents_in_arrays_of_other_kinds(isthmus, run, tmp_path):
    np.savez(tmp_path / "words.npz", mean=np.asarray(["a", "b"]))
    refusal(isthmus("decode", run, tmp_path / "words.npz"), "could not convert string")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    refusal(isthmus("decode", run, tmp_path / "other.npz"), "an array mean or z")
    np.savez(tmp_path / "object.npz", mean=np.asarray([{}, {}], dtype=object))
    refusal(
        isthmus("decode", run, tmp_path / "object.npz"), "pickled objects, which are never read"
    )
    refusal(isthmus("decode", run, tmp_path / "none.npz"), "No such file")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["sample", "RUN", "--temperature", "-1", "--sample"], ["temperature > 0", "-1"]),
        (["sample", "RUN", "--temperature", "nan", "--sample"], ["temperature > 0", "nan"]),
        (["sample", "RUN", "--top-p", "1.5"], ["0 < top_p ≤ 1", "1.5"]),
        (["sample", "RUN", "--top-k", "-2"], ["top_k ≥ 0", "-2"]),
        (["sample", "RUN", "--beams", "0"], ["beams must be ≥ 1"]),
        (["sample", "RUN", "--max-new-tokens", "0"], ["max_new_tokens"]),
        (["sample", "RUN", "--count", "0"], ["count must be ≥ 1, got 0"]),
        (["interpolate", "RUN", "a", "b", "--steps", "-1"], ["steps must be ≥ 0, got -1"]),
        (["traverse", "RUN", "a", "--steps", "1"], ["steps must be ≥ 2, got 1"]),
        (["traverse", "RUN", "a", "--dimension", "4"], ["dimension must lie between 0 and 3"]),
        (["neighbours", "RUN", "DATA", "a", "--count", "0"], ["count must be ≥ 1"]),
        (["cluster", "RUN", "DATA", "--clusters", "-3"], ["clusters must lie between 1 and 24"]),
        (["cluster", "RUN", "DATA", "--clusters", "99"], ["24 examples, got 99"]),
        (["cluster", "RUN", "PLAIN", "--clusters", "0"], ["no labels to count", "--clusters"]),
        (["cluster", "RUN", "DATA", "--limit", "-1"], ["limit must be ≥ 0, got -1"]),
        (["cluster", "RUN", "DATA", "--seeds", "0"], ["seeds must be ≥ 1, got 0"]),
        (["cluster", "RUN", "DATA", "--principal", "5"], ["between 0 and 4", "got 5"]),
        (["cluster", "RUN", "DATA", "--plot", "map.txt"], ["ends with .png", "map.txt"]),
        (["cluster", "RUN", "DATA", "--plot", "/nowhere/map.png"], ["/nowhere does not exist"]),
        (["cluster", "RUN", "DATA", "--method", "prior"], ["kind standard", "isthmus prior"]),
        (
            ["cluster", "RUN", "DATA", "--method", "prior", "--clusters", "2"],
            ["leave out --clusters"],
        ),
        (["probe", "RUN", "PLAIN"], ["plain.txt: has no labels", "label TAB text"]),
        (["probe", "RUN", "DATA", "--labels", "1"], ["labels: got 1, expected a number from 3"]),
        (["probe", "RUN", "DATA", "--labels", "9,999"], ["labels: got 999", "not held out"]),
        (["probe", "RUN", "DATA", "--labels", "9,many"], ["whole numbers with commas", "9,many"]),
        (
            ["probe", "RUN", "DATA", "--labels", "9", "--seeds", "1"],
            ["seeds: got 1, expected at least 2"],
        ),
        (["evaluate", "RUN", "DATA", "--samples", "0"], ["samples ≥ 1", "got 0"]),
        (["evaluate", "RUN", "DATA", "--subset", "-1"], ["subset ≥ 0"]),
        (["evaluate", "RUN", "missing.txt"], ["missing.txt does not exist"]),
        (["encode", "RUN", "DATA", "--out", "z.txt"], ["ends with .npz"]),
        (["encode", "RUN", "DATA", "--out", "/nowhere/z.npz"], ["/nowhere does not exist"]),
        (["encode", "RUN", "DATA", "--out", "/proc/z.npz"], ["/proc/z.npz: cannot be written"]),
        (
            ["train", "DATA", "--out", "new", "--processes", "2"],
            ["got 2 without --on", "add --on"],
        ),
        (["prior", "RUN", "DATA", "--out", "RUN"], ["exists already"]),
        (["prior", "RUN", "DATA", "--out", "new", "--steps", "0"], ["steps must be ≥ 1"]),
        (
            ["prior", "RUN", "DATA", "--out", "new", "--components", "0"],
            ["components must be ≥ 1"],
        ),
        (
            ["prior", "RUN", "DATA", "--out", "/proc/new", "--kind", "vamp", "--steps", "1"],
            ["cannot be written"],
        ),
    ],
)
def test_arguments_without_sense(isthmus, run, corpus, tmp_path, monkeypatch, words, parts):
    monkeypatch.chdir(tmp_path)
    Path("plain.txt").write_text("a ball\na box\n", encoding="utf-8")
    places = {"RUN": run, "DATA": corpus, "PLAIN": "plain.txt"}
    refusal(isthmus(*[places.get(word, word) for word in words]), *parts)


def test_standard_input_that_is_no_text(isthmus, run):
    refusal(isthmus("encode", run, "-", stdin=b""), "standard input: no texts in it")
    refusal(isthmus("encode", run, "-", stdin=b"\n\n"), "standard input: no texts in it")
    refusal(
        isthmus("encode", run, "-", stdin=b"a \xff"),
        "standard input: line 1 is not UTF-8",
        "iconv",
    )
    refusal(isthmus("encode", run, "-", stdin=b"a \0"), "standard input", "NUL")
    refusal(isthmus("decode", run, "-", stdin=b"\xff"), "standard input: line 1 is not UTF-8")


@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_a_plain_language_model_has_nothing_to_encode_to(isthmus, plain_run, corpus, verb):
    result = isthmus(verb, plain_run, corpus)
    assert (result.code, result.out) == (1, "")
    assert "is a plain language model, which has no latent" in result.err


def test_a_plain_language_model_has_nothing_to_probe(isthmus, plain_run, corpus):
    result = isthmus("probe", plain_run, corpus, "--labels", "9")
    refusal(result, "a plain language model has no latent to probe")


def test_wrong_usage_is_code_2(isthmus, run):
    none, unknown, near = isthmus(), isthmus("frobnicate"), isthmus("evalute", "x", "y")
    assert none.code == unknown.code == near.code == 2
    assert none.err.startswith("usage: isthmus VERB"), "what was not asked for is no result"
    assert none.out == unknown.out == near.out == ""
    assert near.err == "isthmus: unknown verb 'evalute'; did you mean evaluate?\n"
    flag = isthmus("sample", run, "--cuont", "3")
    assert flag.code == 2
    assert "--count" in flag.err
    assert flag.out == ""
    assert isthmus("sample").code == isthmus("sample", run, "--count", "many").code == 2
    assert isthmus("cluster", run, "x", "--method", "magic").code == 2


def test_help_and_version_are_results(isthmus):
    for words in (["--help"], ["sample", "--help"], ["--version"]):
        result = isthmus(*words)
        assert result.code == 0
        assert result.out
        assert result.err == ""


def test_help_names_every_format(isthmus):
    shown = isthmus("train", "--help").out
    assert all(suffix in shown for suffix in READERS)


def test_huge_free_bits_train_with_a_warning(train):
    words = ["--objective.free-bits", "1e6", "--objective.schedule", "constant"]
    result = train("a small ball\na large box\na red cube\n" * 4, *words)
    assert result.code == 0, result.err
    assert "warning: the KL gradient is off for 100%" in result.err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True)
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    # lazily: the writer of the event files may still hold one open
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("left", [4_096, 120_000, 400_000, 700_000])
def test_a_full_disk_is_reported_in_one_line(train, small_disk, left):
    """Wherever it fills up: the log, the weights, the optimiser's state, the final bundle."""
    texts = "a small ball\na large box\na red cube\n" * 8
    with (small_disk / "ballast").open("wb") as file:
        file.write(bytes(1_000_000 - left))
        os.fsync(file.fileno())
    line = refusal(train(texts, "--train.steps", "60", out=small_disk / "run"))
    assert "the disk is full" in line
    assert "make room" in line
    assert not (small_disk / "run" / "run.json").exists()


def test_an_encoded_text_is_one_json_line(isthmus, run):
    result = isthmus("encode", run, "-", stdin="zwei\tWörter\n".encode())
    assert json.loads(result.out)["text"] == "zwei\tWörter"
