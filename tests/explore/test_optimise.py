"""Search for the best text: nearer to the closed form than chance, inside its region, resumed."""

import json
import math

import pytest
import torch
from scipy.stats import chi2

from isthmus.errors import IsthmusError
from isthmus.evaluation.searching import Searched, best_so_far, mean_of_best
from isthmus.explore.objectives import Objective
from isthmus.explore.optimise import Log, follow, optimise
from isthmus.explore.region import Region
from isthmus.explore.walks import mixture_of
from isthmus.explore.ways import Call, evolution, listed, random
from isthmus.latent.distribution import Prior
from isthmus.latent.prior_module import StandardNormal
from isthmus.models.generation import Generation
from tiny import system

pytest.importorskip("cma", reason="cma is not installed: pip install 'isthmus[optimise]'")
SIZE = 12
DIRECTION = torch.arange(1.0, SIZE + 1) / torch.arange(1.0, SIZE + 1).norm()


@pytest.fixture(scope="module")
def region():
    return Region(StandardNormal(SIZE), seed=3)


def numbers(z):
    """A space of texts that name their place."""
    return [" ".join(f"{x:.4f}" for x in row) for row in z.tolist()]


def along(text):
    """⟨z, direction⟩: in a ball of radius r its largest value is r."""
    return float(torch.tensor([float(word) for word in text.split()]) @ DIRECTION)


def searched(region, objective, calls, path=None, seed=0):
    scouts = region.draw(60, torch.Generator().manual_seed(seed))
    way = evolution(region, scouts, seed)
    return follow(way, numbers, Objective(objective), calls, Log(path))


def test_it_comes_near_the_closed_form_where_chance_does_not(region):
    radius = math.sqrt(-2 * region.lowest - SIZE * math.log(2 * math.pi))
    assert radius == pytest.approx(math.sqrt(chi2.ppf(0.99, SIZE)), rel=0.03)
    best = max(call.value for call in searched(region, along, 600))
    by_chance = follow(random(region, 0), numbers, Objective(along), 600, Log(None))
    assert 0.93 * radius < best <= radius + 1e-3
    assert max(call.value for call in by_chance) < 0.8 * radius


def test_everything_it_asks_about_is_inside_the_region(region):
    calls = searched(region, along, 400)
    density = region.density(torch.tensor([call.z for call in calls]))
    assert density.min() >= region.lowest - 1e-3
    far = 40 * DIRECTION.unsqueeze(0)
    assert not region.holds(far)
    back = region.pulled(far, torch.zeros(SIZE))
    assert region.holds(back)
    assert torch.allclose(back / back.norm(), far / far.norm())  # on the straight line


def test_coordinates_are_round_and_lead_back(region):
    z = region.draw(2000, torch.Generator().manual_seed(7)) * Stretched.SCALE
    stretched = Region(Stretched(), seed=1)
    u = stretched.coordinates(z)
    assert torch.allclose(u.T.cov(), torch.eye(SIZE).double(), atol=0.15)
    assert torch.allclose(stretched.latents(u), z, atol=1e-4)


class Stretched(Prior):
    """N(0, diag(1, 4, 9, …))."""

    SCALE = torch.arange(1.0, SIZE + 1)

    def log_prob(self, z):
        return StandardNormal(SIZE).log_prob(z / self.SCALE)

    def sample(self, count, generator=None):
        return StandardNormal(SIZE).sample(count, generator) * self.SCALE


@pytest.mark.parametrize("cut", [0, 40])
def test_a_killed_search_goes_on_with_the_same_calls_and_asks_nothing_twice(region, tmp_path, cut):
    whole = searched(region, along, 200)
    asked = []

    def until_killed(text):
        if len(asked) == 133:
            raise KeyboardInterrupt
        asked.append(text)
        return along(text)

    path = tmp_path / "calls.jsonl"
    with pytest.raises(KeyboardInterrupt):
        searched(region, until_killed, 200, path)
    assert asked == [call.text for call in whole[:133]]
    if cut:  # a kill in the middle of a line
        with path.open("ab") as file:
            file.write(path.read_bytes()[:cut])
    later = []
    resumed = searched(region, lambda text: later.append(text) or along(text), 200, path)
    assert resumed == whole
    assert asked + later == [call.text for call in whole]
    more = searched(region, along, 230, path)  # calls can be added
    assert more[:200] == whole
    with pytest.raises(IsthmusError, match="of another search"):
        searched(region, along, 200, path, seed=1)


def test_failures_are_counted_and_never_end_the_search(region):
    def fragile(text):
        value = along(text)
        if value < 0:
            raise ValueError("no\nring")
        return {0: None, 1: math.nan, 2: math.inf, 3: "x"}.get(int(value * 1000) % 10, value)

    calls = searched(region, fragile, 300)
    assert len(calls) == 300
    failed = [call for call in calls if call.value is None]
    assert {"ValueError: no ring", ""} <= {call.fault for call in failed}
    assert all(math.isfinite(call.value) for call in calls if call.value is not None)
    own = Searched([{"search": calls}]).figures()
    assert own["search_failed"] == len(failed) > 30
    assert own["search_best"] == max(call.value for call in calls if call.value is not None)


def of_list(texts: list[str]) -> list[float]:
    return [along(text) for text in texts]


def short(texts: "list[str]"):
    return texts[:1]


def test_a_function_of_a_list_gives_the_same_search(region):
    assert searched(region, of_list, 150) == searched(region, along, 150)
    with pytest.raises(IsthmusError, match="returned 1 values for 50 texts"):
        follow(random(region, 0), numbers, Objective(short), 100, Log(None))


def test_a_text_that_comes_again_is_no_call(region):
    asked = []

    def sign(z):
        return ["+" if row[0] > 0 else "-" for row in z.tolist()]

    calls = follow(random(region, 0), sign, Objective(lambda t: asked.append(t)), 9, Log(None))
    assert sorted(call.text for call in calls) == sorted(asked) == ["+", "-"]
    given = follow(listed(list("abcde"), 1), list, Objective(ord), 9, Log(None))
    assert sorted(call.text for call in given) == list("abcde")


def test_means_of_the_best_so_far():
    values = [None, 1.0, 3.0, None, 2.0, 5.0]
    calls = [Call(str(place), value) for place, value in enumerate(values)]
    assert best_so_far(calls, 2)[2:].tolist() == [2, 2, 2.5, 4]
    assert best_so_far(calls, 1)[1:].tolist() == [1, 3, 3, 3, 5]
    assert all(map(math.isnan, best_so_far(calls, 2)[:2]))
    assert mean_of_best(calls, 2) == 4
    assert mean_of_best(calls, 10) == 11 / 4
    assert math.isnan(mean_of_best(calls[:1]))


@pytest.mark.parametrize("name", ["gpt2-memory+embedding", "grid", "llama-summary"])
def test_spaces_of_every_shape_are_searched(name, tmp_path):
    model = system(name)
    found = optimise(model, Objective(len), 9, 1, ["a b", "c", "b c a"], folder=tmp_path)
    assert (
        found["search"] == optimise(model, Objective(len), 9, 1, ["a b", "c", "b c a"])["search"]
    )
    assert {call.text for call in found["data"]} == {"a b", "c", "b c a"}
    lines = (tmp_path / "search-1.jsonl").read_text().splitlines()
    assert {json.loads(line)["text"] for line in lines} == {call.text for call in found["search"]}
    call = found["search"][0]
    if name != "llama-summary":  # which draws what it leaves open
        longest = Generation(max_new_tokens=model.codec.maximum_length)
        [text] = model.decode(torch.tensor([call.z]), longest)
        assert text == call.text


def test_under_a_standard_prior_the_texts_show_where_the_space_is_populated():
    model, texts = system("gpt2-memory+embedding"), ["a b", "c", "b c a", "a a a", "c b"]
    order = torch.randperm(5, generator=torch.Generator().manual_seed(2)).tolist()
    posterior = model.encode([texts[row] for row in order])
    region = Region(mixture_of(posterior, seed=2), 2)

    def places(*given):
        calls = optimise(model, Objective(len), 12, 2, *given, compare=False)["search"]
        return torch.tensor([call.z for call in calls])

    assert (region.density(places(texts)) >= region.lowest - 1e-3).all()
    assert not region.holds(places()).all()  # N(0, I) is wider


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(IsthmusError, match="no value for any of"):
        optimise(system("grid"), Objective(lambda text: None), 10)
    with pytest.raises(IsthmusError, match="expected a run of texts with a latent"):
        optimise(system("language"), Objective(len), 10)
    with pytest.raises(IsthmusError, match="give one of"):
        optimise(system("labels"), Objective(len), 10)
    with pytest.raises(IsthmusError, match="got int, expected a function"):
        Objective(3)
