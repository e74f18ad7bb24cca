"""A recipe's options are those of its architectures."""

from isthmus.commands.train import Train
from isthmus.runs.card import metric_rows, model_card


def options(*words: str) -> dict:
    settings = Train.starting_point(["texts.txt", "--recipe", "optimus", *words]).settings
    return settings.model.decoder.options


def test_another_architecture_keeps_only_the_options_it_has():
    assert set(options()) == {"initializer_range", "activation_function"}
    mamba = options("--model.decoder.architecture", "mamba")
    assert mamba == {"initializer_range": 0.07}
    assert options("--model.decoder.architecture", "t5") == {}


def test_flags_name_options_that_the_recipe_does_not_have():
    words = ["--model.decoder.architecture", "mistral", "--model.decoder.options.sliding-window"]
    assert options(*words, "4") == {"initializer_range": 0.07, "sliding_window": 4}


def test_a_model_without_a_latent_has_one_likelihood():
    metrics = {"nll_iw": 3.0, "elbo": -3.0, "reconstruction": 3.0, "latent_size": 0}
    assert metric_rows(metrics) == [("−log p(x)", "3.000", "nats per sentence")]


def test_bars_do_not_break_the_table_of_a_card():
    metrics = {"reconstruction": 2.0, "iw_samples": 1, "sentences": 9}
    run = {"versions": {"isthmus": "1"}, "metrics": metrics, "data": {}}
    assert r"−E[log p(x\|z)] | 2.000 |" in model_card("isthmus", run)
