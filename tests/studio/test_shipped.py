"""The run that comes with Isthmus: small, whole, harmless, and as good as its figures say."""

import json
import math
import subprocess
import time
from pathlib import Path

import pytest

from isthmus.data import scenes
from isthmus.evaluation.labels import leakage
from isthmus.explore.walks import sample
from isthmus.models.generation import Generation
from isthmus.runs.bundle import load, read_run
from isthmus.settings import Settings, from_dict, load_recipe
from isthmus.studio.health import health
from isthmus.studio.projections import Plane
from isthmus.studio.shipped import LABEL, SENTENCES, bundle_corpus, bundle_path

ROOT = Path(__file__).parents[2]
HELD_OUT = 150


@pytest.fixture(scope="module")
def results():
    path = ROOT / "benchmarks" / "results" / "studio_bundle.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return load(bundle_path())


@pytest.fixture(scope="module")
def texts():
    """Test sentences of another seed: neither trained on, nor chosen by, nor in the figures."""
    return [sentence.text for sentence in scenes.generate("test", HELD_OUT, seed=1)]


def lowest(figure):
    """What so few texts may show of a share by chance: three errors of both below it."""
    p = figure["value"]
    return p - 3 * math.hypot(figure["se"], math.sqrt(p * (1 - p) / HELD_OUT)) - 1 / HELD_OUT


def test_it_is_small_and_holds_nothing_that_could_run():
    paths = [path for path in bundle_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in paths) <= 10_000_000
    assert {path.suffix for path in paths} == {".json", ".jsonl", ".md", ".safetensors"}
    for path in paths:  # neither a pickle nor an archive that holds one
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path
    card = (bundle_path() / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "grammar" in card


def test_it_is_in_the_repository_and_so_in_the_package():
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    names = [str(path) for path in bundle_path().iterdir()]
    try:
        found = subprocess.run(
            ["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no git")
    assert found.stdout == ""  # a wheel leaves out what git ignores


def test_it_is_what_the_recipe_and_the_figures_are_of(results):
    record = read_run(bundle_path())
    recipe = load_recipe(str(ROOT / "benchmarks" / results["recipe"]))
    values = record["settings"]
    for name in ("latent", "captions", "rivals", "picture"):  # of version 0.1.0, for other kinds
        values["model"].pop(name, None)
    # Settings that are newer than the run have the values that it was trained with.
    assert from_dict(Settings, values, "run.json") == recipe
    sizes = {path.name: path.stat().st_size for path in bundle_path().iterdir()}
    assert sizes == results["bytes"]
    assert record["steps"] == results["steps"]
    assert results["entropy"] == scenes.entropy().nats_per_sentence
    assert results["test"]["nll_iw"] > results["entropy_of_these_sentences"]


def test_held_out_sentences_come_back(model, texts, results):
    mean = model.encode(texts).mean
    labels = [scenes.factors(text)[LABEL] for text in texts]
    back = dict.fromkeys(texts)
    for name in model.config.label_names:
        rows = [row for row, label in enumerate(labels) if label == name]
        written = model.decode(mean[rows], Generation(label=name))
        back |= {texts[row]: text for row, text in zip(rows, written, strict=True)}
    exact = sum(text == again for text, again in back.items()) / len(back)
    measured = results["test"]
    figure = {"value": measured["exact_match"], "se": measured["exact_match_se"]}
    assert exact >= lowest(figure)


def test_samples_are_sentences_of_the_grammar(model, results):
    drawn = sample(model, HELD_OUT, seed=5)
    valid = sum(scenes.log_probability(text) > -math.inf for text in drawn) / HELD_OUT
    assert valid >= lowest(results["samples_that_are_sentences"])
    assert len(set(drawn)) > 0.9 * HELD_OUT


def test_another_label_is_another_tense_of_the_same_scene(model, texts, results):
    moved = [text for text in texts if scenes.factors(text)[LABEL] != "past"]
    written = model.decode(model.encode(moved).mean, Generation(label="past"))
    wanted = [scenes.factors(text) | {LABEL: "past"} for text in moved]
    valid = [scenes.log_probability(text) > -math.inf for text in written]
    same = [
        ok and scenes.factors(text) == scene
        for ok, text, scene in zip(valid, written, wanted, strict=True)
    ]
    assert sum(same) / len(same) >= lowest(results["relabelled"]["same_scene"])


def test_one_point_is_decoded_at_once(model, texts):
    z = model.encode(texts[:1]).mean
    model.decode(z)
    spent = []
    for _ in range(5):
        before = time.perf_counter()
        model.decode(z)
        spent.append(time.perf_counter() - before)
    assert min(spent) < 0.3


def test_its_health_has_curves_and_no_warning_of_a_dead_latent():
    found = health(bundle_path())
    rows = {row["key"]: row for row in found["readings"]}
    assert {rows[key]["level"] for key in ("kl", "swap_gap", "exact_match")} == {"good"}
    assert found["curves"]
    assert found["posterior"]["aggregate_mean"] is not None


def test_its_corpus_is_made_on_the_spot_and_shows_what_z_holds(model):
    """The map predicts the style but not the tense, which is not in z."""
    corpus = bundle_corpus()
    assert len(corpus) == SENTENCES
    assert corpus.fingerprint == bundle_corpus().fingerprint
    texts = corpus.texts[:600]
    mean = model.encode(texts).mean
    flat = Plane.of(mean).places(mean)
    tenses = [factors[LABEL] for factors in corpus.factors[:600]]
    assert set(tenses) == set(model.config.label_names)
    style = leakage(flat, corpus.labels[:600])
    tense = leakage(flat, tenses)
    assert style.value > 0.15
    assert tense.value < 0.1
