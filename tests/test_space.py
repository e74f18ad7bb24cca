"""A space is its model with methods: one in gives one out, lists give lists, in any container."""

from __future__ import annotations

import pickle
import pickletools
from html.parser import HTMLParser

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import isthmus
from isthmus.explore import walks
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import summarised
from isthmus.runs import bundle
from test_api import LABELS, SMALL, texts
from tiny import PICTURES, TEXTS, make, system

PLAIN = "gpt2-memory+embedding"


def space(name: str = PLAIN) -> isthmus.Space:
    return isthmus.Space(system(name))


@pytest.mark.parametrize("name", [PLAIN, "posterior-full", "grid", "llama-summary"])
def test_one_text_gives_what_a_list_of_it_holds(name):
    here, model = space(name), system(name)
    one, both = here.encode(TEXTS[0]), here.encode(TEXTS[:2])
    assert torch.equal(both.mean, model.encode(TEXTS[:2]).mean)
    assert torch.allclose(one.mean, both.mean[0], atol=1e-5)
    assert here.decode(both) == model.decode(both.mean) == here.reconstruct(TEXTS[:2])
    assert here.decode(one) == here.decode(one.mean) == here.reconstruct(TEXTS[0])
    assert here.decode(one) == here.decode(both)[0]
    vectors = here.embed(TEXTS[:2])
    with summarised(model):
        assert np.array_equal(vectors, model.encode(TEXTS[:2]).mean.flatten(1).numpy())
    assert np.allclose(here.embed(TEXTS[0]), vectors[0], atol=1e-5)
    assert here.size == vectors.shape[1]


def test_a_posterior_of_one_is_that_row_of_all():
    noise, z = torch.randn(4, 3, 2), torch.randn(5, 2)
    both = DiagonalGaussian(torch.randn(3, 2), torch.randn(3, 2))
    prior = system("mixture").prior  # of 3 dimensions
    wide = DiagonalGaussian(torch.randn(3, 3), torch.randn(3, 3))
    draws = torch.randn(4, 3, 3)
    for place, one in enumerate(both):
        assert torch.equal(one.rsample(noise=noise[:, place]), both.rsample(noise=noise)[:, place])
        assert torch.allclose(one.log_prob(z), both.log_prob(z.unsqueeze(1))[:, place])
        assert torch.equal(one.entropy(), both.entropy()[place])
        assert torch.equal(one.standard_deviation, both.standard_deviation[place])
        assert torch.allclose(
            wide[place].kl(prior, draws[:, place]), wide.kl(prior, draws)[place], atol=1e-6
        )
    assert place == 2
    assert torch.equal(both[-1].mean, both.mean[2])


@pytest.mark.parametrize(
    "column",
    [
        np.array(TEXTS),
        pd.Series(TEXTS, index=range(10, 10 + len(TEXTS))),
        pd.DataFrame({"stars": range(len(TEXTS)), "review": TEXTS}),
        datasets.Dataset.from_dict({"text": TEXTS, "label": [0] * len(TEXTS)}),
        datasets.Dataset.from_dict({"body": TEXTS})["body"],
        (text for text in TEXTS),
    ],
    ids=["numpy", "series", "frame", "dataset", "column", "generator"],
)
def test_every_container_of_texts_is_a_list_of_them(column):
    assert np.array_equal(space().embed(column), space().embed(TEXTS))


def test_a_table_of_pandas_or_datasets_is_fitted_with_its_labels():
    columns = {"text": [*texts(), None], "label": [*LABELS, "up"]}
    changes = {**SMALL, "model": {"kind": "language-model", "labels": "given", "bridge": "start"}}
    plain = isthmus.fit(texts(), labels=LABELS, **changes)
    for table in (pd.DataFrame(columns), datasets.Dataset.from_dict(columns)):
        found = isthmus.fit(table, **changes)
        assert found.run["data"]["fingerprint"] == plain.run["data"]["fingerprint"]
        assert found.config.label_names == ("down", "up")


def test_arrays_of_numpy_and_torch_and_numbers_go_in():
    here, z = space(), system(PLAIN).encode(TEXTS).mean
    written = here.decode(z)
    for form in (z.numpy(), z.tolist(), z.double(), here.embed(TEXTS)):
        assert here.decode(form) == written
    for form in (z[0], z[0].numpy(), z[0].tolist()):
        assert here.decode(form) == written[0]


@pytest.mark.parametrize("name", ["grid", "llama-summary"])
def test_vectors_of_several_latents_decode_as_the_latents_they_are(name):
    here, model = space(name), system(name)
    with summarised(model):
        z = model.encode(TEXTS[:3]).mean
    assert here.decode(here.embed(TEXTS[:3])) == model.decode(z)
    assert here.decode(here.embed(TEXTS[1])) == model.decode(z)[1]
    flat = model.encode(TEXTS[:3]).mean.flatten(1)
    assert here.decode(flat) == model.decode(model.encode(TEXTS[:3]).mean)


def test_vectors_of_a_summary_of_one_latent_are_as_many_as_there_are_texts():
    model = make(
        *("llama", "aligned"), pooling="blocks", encoder="modernbert", latents=6, summary=1
    )
    here = isthmus.Space(model)
    with summarised(model):
        written = model.decode(model.encode(TEXTS).mean)
    for count in (1, 2, 6):  # six texts have [6 P], and so do the six latents of one
        assert here.decode(here.embed(TEXTS[:count])) == written[:count]
    whole = model.decode(model.encode(TEXTS).mean)
    assert (
        here.decode(here.encode(TEXTS[0]).mean) == here.decode(here.encode(TEXTS[0])) == whole[0]
    )
    assert here.decode(here.encode(TEXTS).mean) == here.decode(here.encode(TEXTS)) == whole


def test_methods_are_the_functions():
    here, (a, b, c) = space(), TEXTS[:3]
    assert here.interpolate(a, b, 2) == isthmus.interpolate(here.model, a, b, 2)
    assert (
        here.sample(3, seed=1) == isthmus.sample(here, 3, seed=1) == walks.sample(here.model, 3, 1)
    )
    assert here.sample(seed=1) == here.sample(1, seed=1)[0]
    assert here.cluster(TEXTS, 2) == isthmus.cluster(here.model, TEXTS, 2)
    near = here.neighbours(TEXTS, a, 2)
    assert near == isthmus.neighbours(here.model, TEXTS, a, 2)
    both = here.neighbours(TEXTS, [c, a], 2)
    places = [[one.place for one in found] for found in both]
    assert places == [
        [one.place for one in found] for found in (here.neighbours(TEXTS, c, 2), near)
    ]
    assert here.evaluate(TEXTS, samples=2, texts=0) == isthmus.evaluate(
        here.model, pd.Series(TEXTS), samples=2, texts=0
    )
    assert space("grid").exchange(a, b) == isthmus.exchange(system("grid"), a, b)
    assert torch.equal(here.terms(TEXTS).kl, here.model.terms(TEXTS).kl)


def test_arithmetic_adds_a_difference_of_means():
    here, (a, b, c) = space(), TEXTS[:3]
    z = here.encode(TEXTS).mean
    moved = z[:2] + 0.5 * (z[2:4].mean(0) - z[4:].mean(0))
    found = here.arithmetic(TEXTS[:2], plus=TEXTS[2:4], minus=TEXTS[4:], weight=0.5)
    assert found == here.decode(moved)
    assert here.arithmetic(c, plus=b, minus=a) == isthmus.analogy(here, a, b, c)
    for text in TEXTS[:2]:
        moved_one = here.arithmetic(text, TEXTS[2:4], TEXTS[4:], 0.5)
        assert moved_one == found[TEXTS.index(text)]


def test_one_picture_gives_one():
    here = isthmus.Space(system("picture"))
    assert here.embed(PICTURES[0]).shape == here.embed(PICTURES[0][0]).shape == (3,)
    assert np.array_equal(here.reconstruct(PICTURES[0]), here.reconstruct(PICTURES[:1])[0])
    both = here.embed(torch.from_numpy(PICTURES[:2]))
    assert np.allclose(both[0], here.embed(PICTURES[0]), atol=1e-6)


def test_a_fitted_space_is_saved_and_pickled_as_a_run(tmp_path, capsys):
    fitted = isthmus.fit(texts(), **SMALL)
    assert "saved" not in capsys.readouterr().err, "a folder that is gone"
    assert fitted.settings["train"]["steps"] == 3
    fitted.save(tmp_path / "run")
    bundle.read_run(tmp_path / "run")
    content = pickle.dumps(fitted)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() in content
    named = [argument for _, argument, _ in pickletools.genops(content)]
    assert not [one for one in named if isinstance(one, str) and "torch" in one]
    for again in (isthmus.Space.load(tmp_path / "run"), pickle.loads(content)):
        assert np.array_equal(again.embed(TEXTS), fitted.embed(TEXTS))
        same = ("settings", "data", "metrics", "versions", "seed")
        assert [again.run[part] for part in same] == [fitted.run[part] for part in same]
        assert again.reconstruct(TEXTS) == fitted.reconstruct(TEXTS)
    with pytest.raises(isthmus.IsthmusError, match="has something in it"):
        fitted.save(tmp_path)
    isthmus.Space(system(PLAIN)).save(tmp_path / "bare")
    assert isthmus.load(tmp_path / "bare").decode(np.zeros((1, 3))) == space().decode([[0.0] * 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: isthmus.Space("runs/x"), "space: got 'runs/x'"),
        (lambda s: s.encode([]), "texts: got none"),
        (lambda s: s.embed(3), "texts: got 3"),
        (lambda s: s.encode(pd.Series(["a", None])), "text 1: got"),
        (lambda s: s.embed(pd.DataFrame({"x": ["a"], "y": ["b"]})), "which of the columns x, y"),
        (lambda s: s.decode("a"), "latents: got 'a'"),
        (lambda s: s.decode([[0.0, 1.0]]), r"got the shape \[1, 2\]"),
        (lambda s: s.sample(0), "a count ≥ 1"),
        (lambda s: s.arithmetic("a", plus=[], minus="b"), "texts: got none"),
        (lambda s: space("language").encode("a"), "no latent to move in"),
        (lambda s: isthmus.fit(pd.DataFrame({"x": ["a"], "y": ["b"]})), 'has no key "text"'),
        (
            lambda s: isthmus.fit({"train": ["a"], "test": ["b"]}),
            r'expected one; give \["train"\]',
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(call, message):
    with pytest.raises(isthmus.IsthmusError, match=message) as caught:
        call(space())
    assert "\n" not in str(caught.value)


class Page(HTMLParser):
    """Text of the cells and everything else, and tags that never close."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "line", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_space_shows_its_figures_in_a_notebook():
    run = {
        "data": {"source": "<b>reviews</b>.txt", "sentences": 1234},
        "metrics": {"sentences": 50, "elbo": -41.25, "elbo_se": 0.5, "kl": 7.125, "kl_se": 0.25},
    }
    shown = isthmus.Space(system(PLAIN), run)
    page = Page(shown._repr_html_())
    assert {"script", "style", "link"}.isdisjoint(tag for tag, _ in page.tags)
    words = " ".join(page.words)
    for part in (
        "<b>reviews</b>.txt",
        "1,234 sentences",
        "ELBO -41.25 ± 0.50 nats",
        "3 dimensions",
    ):
        assert part in words
        assert part in repr(shown)
    assert "7.125 ± 0.250" in page.words
    assert "<details" not in space()._repr_html_()


def test_a_posterior_shows_means_deviations_and_kl_in_a_notebook():
    mean = torch.zeros(7, 80)
    mean[:, 70] = torch.arange(7.0)
    posterior = DiagonalGaussian(mean, torch.zeros(7, 80))
    page = Page(posterior._repr_html_())
    assert "q(z|x) of 7 examples, 80 dimensions (DiagonalGaussian)" in page.words
    assert "… and 2 more" in page.words
    # KL of N(m, 1) from N(0, 1) is m² / 2, and the dimension with a KL is among the 64 shown.
    assert [word for word in page.words if "." in word] == ["0.00", "0.50", "2.00", "4.50", "8.00"]
    dots = [float(attrs["cy"]) for tag, attrs in page.tags if tag == "circle"]
    assert len(dots) == 5 * 64
    assert sorted({round(y) for y in dots}, reverse=True) == [18, 12, 6, 0]  # clipped at ± 3
    assert "2.00" in Page(posterior[2]._repr_html_()).words
