"""Every verb from end to end."""

import io
import json
import math
import shutil
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import silhouette_score

import isthmus as package
from isthmus.cli import main
from isthmus.data import corpus as corpora
from isthmus.data.kind import Floor
from isthmus.evaluation.probe import majority, probe
from isthmus.training import run as training_run
from tiny import texts_of_npz

FIXED = [
    "sentences",
    "tokens",
    "words",
    "reconstruction",
    "kl",
    "elbo",
    "nll_iw",
    "iw_samples",
    "ppl_token",
    "ppl_word",
    "bits_per_character",
    "mutual_information",
    "mutual_information_limit",
    "active_units",
    "latent_size",
    "swap_gap",
    "reconstruction_se",
    "kl_se",
    "elbo_se",
    "nll_iw_se",
    "ppl_token_se",
    "ppl_word_se",
    "bits_per_character_se",
    "mutual_information_se",
    "active_units_se",
    "swap_gap_se",
]
A, B, C = "one small red ball", "two small red balls", "one large blue box"


def ok(result):
    assert result.code == 0, result.err
    return result


def rows(result):
    # not splitlines: JSON leaves U+2028 as it is
    return [json.loads(line) for line in ok(result).out.split("\n") if line]


@pytest.fixture(scope="module")
def model(run):
    return package.load(run)


def texts_of(corpus, split="test"):
    lines = (corpus / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines]


def test_training_leaves_a_whole_run(trained):
    run, result = trained
    assert ok(result).out.count("± ") >= 7, "the metrics are the result: standard output"
    assert "bound at β = 1" in result.err
    assert str(run.name) not in result.out
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.json", "model.safetensors", "run.json", "README.md", "log.jsonl"}
    assert "checkpoints" not in names
    suffixes = {path.suffix for path in run.rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}


def test_the_log_has_the_terms(trained):
    run, _ = trained
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    training = [row for row in log if "loss" in row]
    assert [row["step"] for row in training] == [10, 15, 20, 30]
    for row in training:
        assert row["reconstruction"] > 0
        assert len(row["kl_per_dimension"]) == 4
        assert row["kl"] == pytest.approx(math.fsum(row["kl_per_dimension"]))
        assert 0 <= row["beta"] <= 0.1
        assert row["mutual_information"] <= row["mutual_information_limit"]
        assert 0 <= row["active_units"] <= 4
        assert row["tokens_per_second"] > 0
    measured = [row for row in log if "eval_elbo" in row]
    assert [row["step"] for row in measured] == [15, 30]
    for row in measured:
        total = row["eval_reconstruction"] + row["eval_kl"]
        assert row["eval_elbo"] == pytest.approx(-total)


def test_tensorboard_files_lie_in_the_run_directory(trained):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "tensorboard")).Reload()
    assert {"train/kl", "train/beta", "eval/elbo"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/kl")] == [10, 15, 20, 30]


@pytest.mark.parametrize("form", [".txt", ".jsonl", "scenes"])
def test_training_reads_every_form(isthmus, recipe, corpus, tmp_path, form, monkeypatch):
    monkeypatch.setattr(corpora, "SCENES_SIZES", {"valid": 20, "test": 20})
    texts = texts_of(corpus, "train")[:24]
    data = "scenes"
    if form == ".txt":
        data = tmp_path / "texts.txt"
        data.write_text("\n".join(texts), encoding="utf-8")
    elif form == ".jsonl":
        data = tmp_path / "texts.jsonl"
        data.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    words = ["--recipe", recipe, "--out", tmp_path / "run", "--train.steps", "2"]
    ok(isthmus("train", data, *words, "--data.limit", "24"))
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["train"]["steps"] == 2, "a flag overrides its recipe"
    assert record["settings"]["model"]["latent_size"] == 4
    assert record["data"]["sentences"] == (24 if form == "scenes" else 23)


def test_evaluate_gives_the_fixed_keys_and_they_agree(isthmus, run, corpus, model):
    first = ok(isthmus("evaluate", run, corpus, "--json", "--samples", "8", "--texts", "10"))
    again = isthmus("evaluate", run, corpus, "--json", "--samples", "8", "--texts", "10")
    assert first.out == again.out, "the same command must give the same numbers"
    [m] = rows(first)
    assert not [key for key in FIXED if key not in m]
    texts = texts_of(corpus)
    assert m["sentences"] == 24
    assert m["words"] == sum(len(text.split()) + 1 for text in texts)
    assert m["iw_samples"] == 8
    assert m["latent_size"] == 4
    assert m["elbo"] == pytest.approx(-m["reconstruction"] - m["kl"])
    assert m["elbo"] < 0
    assert m["nll_iw"] <= -m["elbo"] + 1e-6, "the importance-weighted bound is the tighter one"
    assert m["mutual_information"] <= m["mutual_information_limit"] == pytest.approx(math.log(24))
    assert math.log(m["ppl_word"]) * m["words"] == pytest.approx(m["nll_iw"] * 24)
    assert math.log(m["ppl_token"]) * m["tokens"] == pytest.approx(m["nll_iw"] * 24)
    bits = m["bits_per_character"] * sum(len(text) + 1 for text in texts)
    assert bits * math.log(2) == pytest.approx(m["nll_iw"] * 24)
    kl = model.encode(texts).kl(model.prior).sum(-1).mean().item()
    assert m["kl"] == pytest.approx(kl, rel=1e-4)


def test_evaluate_prints_a_table_and_takes_a_subset(isthmus, run, corpus):
    words = ["--samples", "2", "--texts", "0", "--subset", "7"]
    result = ok(isthmus("evaluate", run, corpus / "train.tsv", *words))
    assert "7 sentences" in result.out
    assert "nll_iw" in result.out
    assert "120 sentences with" in result.err


def test_encode_and_decode_round_trip(isthmus, run, corpus, model, tmp_path):
    texts = texts_of(corpus)
    mean = model.encode(texts).mean
    printed = isthmus("encode", run, corpus)
    assert [row["text"] for row in rows(printed)] == texts
    assert np.allclose([row["mean"] for row in rows(printed)], mean.numpy(), atol=1e-6)
    rounded = [row["mean"] for row in rows(isthmus("encode", run, corpus, "--precision", "bf16"))]
    assert 0 < np.abs(np.array(rounded) - mean.numpy()).max() < 0.05 * mean.abs().max()
    saved = ok(isthmus("encode", run, corpus, "--out", tmp_path / "z.npz"))
    assert saved.out == ""
    with np.load(tmp_path / "z.npz") as file:
        assert texts_of_npz(file, "text") == texts
        assert np.array_equal(file["mean"], mean.numpy())
        assert np.allclose(file["log_variance"], model.encode(texts).log_variance.numpy())
    expected = model.decode(mean)
    from_file = ok(isthmus("decode", run, tmp_path / "z.npz")).out.splitlines()
    from_pipe = rows(isthmus("decode", run, "-", "--json", stdin=printed.out.encode()))
    assert from_file == [row["text"] for row in from_pipe] == expected


def test_one_long_text_makes_no_large_file(isthmus, run, tmp_path):
    texts = [A, "é" * 20_000, *[B] * 98]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    ok(isthmus("encode", run, tmp_path / "texts.txt", "--out", tmp_path / "z.npz"))
    assert (tmp_path / "z.npz").stat().st_size < 60_000
    with np.load(tmp_path / "z.npz") as file:
        assert texts_of_npz(file, "text") == texts


def test_line_separators_inside_a_text_survive_the_pipe(isthmus, run):
    strange = "one small\u2028red ball\u0085here"
    encoded = ok(isthmus("encode", run, "-", stdin=f"{strange}\n\n{A}\r\n".encode()))
    assert [row["text"] for row in rows(encoded)] == [strange, A]
    assert "standard input: 2 sentences; skipped 1 empty line" in encoded.err
    assert len(rows(isthmus("decode", run, "-", "--json", stdin=encoded.out.encode()))) == 2


def test_reconstruct_is_decode_of_encode_with_its_terms(isthmus, run, model):
    [row] = rows(isthmus("reconstruct", run, "-", "--json", stdin=A.encode()))
    assert row["reconstruction"] == model.decode(model.encode([A]).mean)[0]
    terms = model.terms([A], seed=0)
    assert row["reconstruction_nats"] == pytest.approx(terms.reconstruction.item())
    assert row["kl_nats"] == pytest.approx(terms.kl_total.item())
    plain = ok(isthmus("reconstruct", run, "-", stdin=A.encode()))
    assert plain.out == f"{A}\n  → {row['reconstruction']}\n"


def test_sample_is_set_by_its_seed(isthmus, run):
    words = ["sample", run, "--count", "8", "--sample", "--json"]
    first, again = isthmus(*words, "--seed", "1"), isthmus(*words, "--seed", "1")
    other = isthmus(*words, "--seed", "2")
    assert first.out == again.out != other.out
    assert len(rows(first)) == 8


def test_interpolation_has_both_ends(isthmus, run, model):
    walk = rows(isthmus("interpolate", run, A, C, "--steps", "3", "--json"))
    assert [row["position"] for row in walk] == [0, 0.25, 0.5, 0.75, 1]
    ends = model.decode(model.encode([A, C]).mean)
    assert [walk[0]["text"], walk[-1]["text"]] == ends
    assert len({row["text"] for row in walk}) > 2, "the decoder is deaf: the test shows nothing"
    assert len(rows(isthmus("interpolate", run, A, C, "--path", "lerp", "--json"))) == 7


def test_analogy(isthmus, run, model):
    a, b, c = model.encode([A, B, C]).mean
    [row] = rows(isthmus("analogy", run, A, B, C, "--weight", "0.5", "--json"))
    assert row["text"] == model.decode((c + 0.5 * (b - a)).unsqueeze(0))[0]
    back = model.decode((c - 0.5 * (b - a)).unsqueeze(0))[0]
    assert row["text"] != back, "the decoder is deaf: the test shows nothing"
    [same] = rows(isthmus("analogy", run, A, A, C, "--json"))
    assert same["text"] == model.decode(c.unsqueeze(0))[0]


def test_traverse_steps_in_standard_deviations(isthmus, run, model):
    words = ["--dimension", "1", "--steps", "3", "--reach", "2", "--json"]
    walk = rows(isthmus("traverse", run, A, *words))
    assert [(row["dimension"], row["offset"]) for row in walk] == [(1, -2), (1, 0), (1, 2)]
    spread = json.loads((run / "run.json").read_text())["metrics"]["aggregate_standard_deviation"]
    z = model.encode([A]).mean.repeat(3, 1)
    z[0, 1] -= 2 * spread[1]
    z[2, 1] += 2 * spread[1]
    assert [row["text"] for row in walk] == model.decode(z)
    assert len({row["text"] for row in walk}) == 3, "the decoder is deaf: the test shows nothing"
    strongest = rows(isthmus("traverse", run, A, "--json"))
    kl = json.loads((run / "run.json").read_text())["metrics"]["kl_per_dimension"]
    assert {row["dimension"] for row in strongest} == {int(np.argmax(kl))}


def test_a_text_is_its_own_nearest_neighbour(isthmus, run, corpus):
    texts = texts_of(corpus)
    found = rows(isthmus("neighbours", run, corpus, texts[5], "--count", "3", "--json"))
    assert found[0]["text"] == texts[5]
    assert found[0]["distance"] == pytest.approx(0, abs=1e-5)
    distances = [row["distance"] for row in found]
    assert distances == sorted(distances)
    assert len(distances) == 3


@pytest.mark.parametrize("method", ["kmeans", "gmm", "gmm-full", "ward"])
def test_cluster_reports_agreement_with_labels_on_standard_error(isthmus, run, corpus, method):
    result = isthmus("cluster", run, corpus, "--method", method, "--json")
    found = rows(result)
    assert [row["text"] for row in found] == texts_of(corpus)
    labels = {line.split("\t")[0] for line in (corpus / "test.tsv").read_text().splitlines()}
    assert {row["cluster"] for row in found} <= set(range(len(labels)))
    shown = next(line for line in result.err.splitlines() if "agreement" in line)
    agreement = json.loads(shown.partition(": ")[2])
    assert 0 < agreement["accuracy"] <= 1
    assert agreement["accuracy_se"] >= 0
    assert "agreement" not in result.out


def test_cluster_draws_a_map_and_reports_silhouettes(isthmus, run, corpus, tmp_path, model):
    picture = tmp_path / "map.png"
    words = ["--clusters", "3", "--principal", "2", "--plot", picture]
    result = ok(isthmus("cluster", run, corpus, *words, "--json"))
    assert imread(picture).std() > 0
    points = model.encode(texts_of(corpus)).mean.double().numpy()
    groups = [row["cluster"] for row in rows(result)]
    apart = json.loads(next(x for x in result.err.splitlines() if "silh" in x).partition(": ")[2])
    assert apart["clusters"] == pytest.approx(silhouette_score(points, groups), abs=1e-4)
    assert apart["labels"] < apart["clusters"]


def test_cluster_without_labels_reports_no_agreement(isthmus, run, corpus, tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text("".join(f"{text}\n" for text in texts_of(corpus)), encoding="utf-8")
    result = ok(isthmus("cluster", run, plain, "--clusters", "2", "--seeds", "1", "--json"))
    assert "agreement" not in result.err
    assert json.loads(result.err.partition("silhouette: ")[2]).keys() == {
        "clusters",
        "clusters_se",
    }


def test_probe_compares_features_on_the_same_draws(isthmus, run, corpus, model):
    words = ["probe", run, corpus / "train.tsv", "--labels", "8,40", "--seeds", "2"]
    found = rows(isthmus(*words, "--json"))
    by_name = {(row["features"], row["labels"]): row for row in found}
    names = ["latent mean", "pooled state", "TF-IDF", "most frequent class"]
    assert list(by_name) == [(name, size) for name in names for size in (8, 40)]
    lines = (corpus / "train.tsv").read_text(encoding="utf-8").splitlines()
    labels, texts = zip(*(line.split("\t") for line in lines), strict=True)
    mean, pooled = model.encode(texts).mean.numpy(), model.pooled(texts)
    head = model.encoder.head.weight.detach()[: mean.shape[1]]
    np.testing.assert_allclose(mean, pooled @ head.T, atol=1e-4)
    for name, expected in {
        "latent mean": probe(mean, labels, (8, 40), 2),
        "most frequent class": majority(labels, (8, 40), 2),
    }.items():
        for size, estimate in expected.items():
            row = by_name[name, size]
            assert row["accuracy"] == pytest.approx(estimate.value, abs=0.03)
            assert row["seeds"] == 2
    words = ["probe", run, corpus, "--labels", "3", "--seeds", "2"]
    table = ok(isthmus(*words)).out
    assert all(name in table for name in [*names, "3 labels"])


def test_a_plain_language_model_is_measured_and_has_no_space(isthmus, plain_run, corpus):
    [m] = rows(isthmus("evaluate", plain_run, corpus, "--json", "--samples", "2", "--texts", "4"))
    assert m["latent_size"] == 0
    assert m["kl"] == 0
    assert m["nll_iw"] == pytest.approx(m["reconstruction"])
    assert len(rows(isthmus("sample", plain_run, "--count", "3", "--sample", "--json"))) == 3
    walk = isthmus("interpolate", plain_run, A, B)
    assert walk.code == 1
    assert walk.err.endswith(
        "is a plain language model, which has no latent to encode to; train one of another "
        "--model.kind\n"
    )


def test_a_run_can_start_from_another(isthmus, run, recipe, corpus, tmp_path, model):
    words = ["--recipe", recipe, "--out", tmp_path / "more", "--train.start-from", run]
    ok(isthmus("train", corpus, *words, "--train.steps", "1", "--train.learning-rate", "1e-12"))
    further = package.load(tmp_path / "more")
    assert np.allclose(further.encode([A]).mean, model.encode([A]).mean, atol=1e-5)


def test_a_run_starts_from_another_with_its_settings_if_no_recipe_is_given(
    isthmus, run, corpus, tmp_path
):
    out = tmp_path / "more"
    words = ["--train.start-from", run, "--train.steps", "1", "--minutes", "1"]
    said = ok(isthmus("train", corpus, "--out", out, *words)).err
    chosen = [line for line in said.splitlines() if line.startswith("chosen: ")]
    assert chosen == [f"chosen: the model and the settings of {run}, at most 1 minute"]
    before, after = (json.loads((x / "run.json").read_text())["settings"] for x in (run, out))
    start = {"steps": 1, "start_from": str(run)}
    start["validation"] = after["train"]["validation"]  # as many as the minute allows
    assert after == before | {"train": before["train"] | start}


def test_a_moved_run_loads(isthmus, run, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    moved, still = isthmus("sample", tmp_path / "elsewhere"), isthmus("sample", run)
    assert ok(moved).out == ok(still).out


def test_sorted_validation_texts_are_judged_by_a_sample(isthmus, recipe, tmp_path, monkeypatch):
    """The first of a sorted file are all short; the card and evaluate must not judge by them."""
    short, long = "a cat", "a cat and a dog and a cat"
    (tmp_path / "train.tsv").write_text(f"s\t{short}\nl\t{long}\n" * 20)
    (tmp_path / "valid.tsv").write_text(f"s\t{short}\n" * 100 + f"l\t{long}\n" * 100)
    monkeypatch.setattr(training_run, "FINAL_TEXTS", 10)
    words = ["--recipe", recipe, "--out", tmp_path / "run", "--train.steps", "1"]
    words += ["--train.validation", "40"]
    labelled = ["--model.labels", "given"]
    trained = isthmus("train", tmp_path, *words, *labelled)
    assert trained.code == 0
    assert "0 words unknown (0.00%); a random sample of 200\n" in trained.err
    card = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]
    subset = ["--samples", "1", "--texts", "10", "--subset", "40", "--json"]
    found = json.loads(isthmus("evaluate", tmp_path / "run", tmp_path, *subset).out)
    for metrics in (card, found):
        assert metrics["sentences"] == 40
        mean = metrics["words"] / 40  # 3 of the short ones with their end, 9 of the long
        assert 4.5 < mean < 7.5, mean
        assert metrics["per_label"]["s"]["sentences"] == round((9 - mean) / 6 * 40)
        # of the 10 decoded ones as well: groups of one text, distinct 1 or 4 / 8
        assert 0.5 < metrics["data_distinct_1"] < 1


def test_a_run_that_beats_the_entropy_of_scenes_gives_no_figures(
    isthmus, recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(corpora, "SCENES_SIZES", {"valid": 4, "test": 4})
    few = ["--recipe", recipe, "--train.steps", "1", "--data.limit", "20"]
    bytes_ = ["--data.tokenizer", "bpe", "--data.maximum-length", "150"]
    assert isthmus("train", "scenes", *few, *bytes_, "--out", tmp_path / "run").code == 0
    # Raise the entropy instead of planting a decoder that sees the future.
    monkeypatch.setattr(corpora, "scenes_floor", lambda: Floor("scenes", 9e3, 1.0))
    asked = [["train", "scenes", *few, *bytes_, "--out", tmp_path / "other"]]
    asked += [["evaluate", tmp_path / "run", "scenes", "--json"]]
    for words in asked:
        result = isthmus(*words)
        assert (result.code, result.out) == (1, "")
        [line] = [line for line in result.err.splitlines() if line.startswith("isthmus: ")]
        assert "9000.00, the entropy of scenes, which no model can beat" in line


@pytest.mark.parametrize(
    "words",
    [
        ["encode", "RUN", "TEXTS"],
        ["encode", "RUN", "TEXTS", "--refine", "1"],
        ["reconstruct", "RUN", "TEXTS"],
        ["cluster", "RUN", "TEXTS", "--clusters", "2"],
        ["neighbours", "RUN", "TEXTS", "a dog"],
        ["interpolate", "RUN", "LONG", "zebra", "--steps", "1"],
        ["analogy", "RUN", "LONG", "zebra", "a"],
        ["traverse", "RUN", "LONG zebra", "--dimension", "0", "--steps", "2"],
    ],
)
def test_what_is_lost_of_a_text_is_said(isthmus, run, tmp_path, caplog, words):
    long = "a small red cat " * 10
    (tmp_path / "texts.txt").write_text(f"a dog\n{long}\na zebra sits\n")
    known = {"RUN": run, "TEXTS": tmp_path / "texts.txt", "LONG": long, "LONG zebra": long}
    words = [known.get(word, word) for word in words]
    if words[0] == "traverse":
        words[2] = "zebra " + long
    result = isthmus(*words)
    assert result.code == 0, result.err
    [line] = [line for line in caplog.messages if line.startswith("read: ")][:1]
    assert " cut; " in line
    assert "unknown: zebra" in line


def test_output_that_cannot_be_encoded_is_replaced(run, corpus, monkeypatch):
    """This is ``> file`` on Windows."""
    for words, code in (
        (["--help"], 0),
        (["evaluate", str(run), str(corpus), "--samples", "1", "--texts", "0"], 0),
        (["encode", str(run), "猫.txt"], 1),
    ):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(words) == code
        out.flush()
        err.flush()
        assert out.buffer.getvalue() or err.buffer.getvalue()
    assert b"?.txt does not exist" in err.buffer.getvalue()


def test_json_loses_nothing_in_another_encoding(run, monkeypatch):
    """Nor does standard input, which is UTF-8 as files are."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", out)
    given = io.BytesIO("a 猫 – sat\n".encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given, encoding="cp1252"))
    assert main(["encode", str(run), "-"]) == 0
    out.flush()
    assert json.loads(out.buffer.getvalue())["text"] == "a 猫 – sat"


def test_labels_and_texts_in_brackets_are_printed_as_they_are(isthmus, recipe, tmp_path):
    data = "[/b]\tone :cat: here\n[red]\ta [bold]dog[/bold] sits\n" * 12
    (tmp_path / "markup.tsv").write_text(data)
    words = ["--recipe", recipe, "--out", tmp_path / "run", "--train.steps", "1"]
    trained = isthmus("train", tmp_path / "markup.tsv", *words, "--model.labels", "given")
    assert trained.code == 0
    assert "−log p(x|[/b])" in trained.out
    few = ["--samples", "1", "--texts", "0"]
    table = isthmus("evaluate", tmp_path / "run", tmp_path / "markup.tsv", *few)
    assert table.code == 0
    assert "given its label [/b]: " in table.out
    assert "given its label [red]: " in table.out
    for verb in ("classify", "reconstruct"):
        shown = isthmus(verb, tmp_path / "run", tmp_path / "markup.tsv").out
        assert "a [bold]dog[/bold] sits" in shown
        assert "one :cat: here" in shown
