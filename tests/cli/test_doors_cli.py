"""The verbs on a run of pictures with captions: in at one door, out at the other."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data import captioned
from isthmus.data.captioned import Example
from isthmus.models.generation import Generation
from isthmus.runs.bundle import load
from tiny import texts_of_npz

RECIPE = """
[model]
kind = "pictures-with-captions"
latent_size = 4
bridge = "state+input"
[model.picture]
network = "mlp"
hidden_size = 16
layers = 1
likelihood = "logistic"
[model.encoder]
architecture = "lstm"
layers = 1
hidden_size = 16
pooling = "last"
[model.decoder]
architecture = "lstm"
layers = 1
hidden_size = 16
[data]
tokenizer = "word"
maximum_length = 16
[objective]
schedule = "constant"
[train]
steps = 30
sentences_per_batch = 16
learning_rate = 1e-2
clip = 1000.0
evaluations = 2
log_every = 10
"""

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "grey": (128, 128, 128)}


def painted(colour: str, shade: int) -> Image.Image:
    return Image.new("RGB", (4, 4), tuple(min(255, c + shade) for c in COLOURS[colour]))


@pytest.fixture(scope="module")
def paintings(tmp_path_factory) -> Path:
    """A folder of plain colours: some with a caption, some without, some captions alone."""
    path = tmp_path_factory.mktemp("paintings")
    lines = ["\ta red thing", "\ta blue thing"]
    for number in range(60):
        colour = list(COLOURS)[number % 3]
        painted(colour, number % 20).save(path / f"{number:02}.png")
        if number % 5:
            lines.append(f"{number:02}.png\ta {colour} thing")
    (path / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained_doors(isthmus, paintings, tmp_path_factory):
    recipe = tmp_path_factory.mktemp("recipe") / "doors.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    run = tmp_path_factory.mktemp("runs") / "paintings"
    return run, isthmus("train", paintings, "--recipe", recipe, "--out", run)


@pytest.fixture(scope="module")
def door_run(trained_doors) -> Path:
    return trained_doors[0]


def test_training_tells_its_data_and_ends_with_figures_of_both_doors(trained_doors):
    run, result = trained_doors
    assert result.code == 0, result.err
    assert "59 examples, 57 with a picture of 4×4, RGB" in result.err
    assert "−log p(caption|picture)" in result.out
    assert "nats per picture" in result.out
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "A picture and caption model" in card
    assert "59 examples" in card


def test_evaluate_has_every_door(isthmus, door_run, paintings):
    result = isthmus("evaluate", door_run, paintings, "--json", "--samples", "8", "--texts", "10")
    metrics = json.loads(result.out)
    assert metrics["examples"] == 62
    assert metrics["pictures"] == 60
    assert metrics["captions"] == 50
    assert metrics["caption_from_picture"] > 0
    words = ["--samples", "2", "--texts", "0", "--refine", "2"]
    shown = isthmus("evaluate", door_run, paintings, *words).out
    assert "amortisation_gap" in shown
    assert "62 examples, nats per example unless named" in shown


def test_caption_says_what_the_model_does(isthmus, door_run, paintings):
    result = isthmus("caption", door_run, paintings / "01.png", f"{paintings}#0")
    model = load(door_run)
    given = captioned.read(str(paintings)).examples
    chosen = [next(e for n, e in named(paintings) if n == "01.png"), given[0]]
    z = model.encode([Example(e.picture) for e in chosen]).mean
    captions = model.decode(z, Generation(part="caption"))
    lines = result.out.splitlines()
    assert lines == [
        f"{paintings / '01.png'}  {captions[0]}",
        f"{paintings}#0  {captions[1]}",
    ]
    alone = isthmus("caption", door_run, paintings / "01.png")
    assert alone.out == f"{captions[0]}\n"
    record = json.loads(isthmus("caption", door_run, paintings / "01.png", "--json").out)
    assert record == {"picture": str(paintings / "01.png"), "caption": captions[0]}


def named(paintings: Path):
    corpus = captioned.read(str(paintings))
    return zip(corpus.names, corpus.examples, strict=True)


def test_draw_paints_what_the_model_does(isthmus, door_run, tmp_path):
    out = tmp_path / "x.png"
    result = isthmus("draw", door_run, "a red thing", "a blue thing", "--out", out)
    assert result.code == 0, result.err
    model = load(door_run)
    z = model.encode([Example(caption=f"a {c} thing") for c in ("red", "blue")]).mean
    drawn = model.decode(z, Generation(part="picture"))
    with Image.open(out) as image:
        small = np.asarray(image)[::16, ::16]
    assert small.shape == (2 + 6, 2 + 2 * 6, 3)
    for place, picture in enumerate(drawn):
        left = 2 + 6 * place
        assert (small[2:6, left : left + 4] == np.moveaxis(picture, 0, -1)).all()


def test_a_caption_that_ends_with_a_number_is_a_caption(isthmus, door_run, paintings):
    for word in ("5", "room #3", "#1"):
        result = isthmus("interpolate", door_run, word, "a red thing", "--steps", "1")
        assert result.code == 0, result.err
    refused = isthmus("interpolate", door_run, f"{paintings}#99", "a red thing", "--steps", "1")
    assert "has 60 pictures, from #0" in refused.err


def test_captions_without_pictures_are_drawn_below_paper(isthmus, door_run, tmp_path):
    (tmp_path / "x.txt").write_text("a red thing\na blue thing\n", encoding="utf-8")
    out = tmp_path / "x.png"
    result = isthmus("reconstruct", door_run, tmp_path / "x.txt", "--out", out)
    assert result.code == 0, result.err
    model = load(door_run)
    given = [Example(caption=text) for text in ("a red thing", "a blue thing")]
    drawn = model.decode(model.encode(given).mean, Generation(part="picture"))
    sheet = np.moveaxis(np.asarray(Image.open(out)), -1, 0)
    scale = sheet.shape[1] // (2 + 2 * (4 + 2))
    small = sheet[:, ::scale, ::scale]
    assert (small[:, 2:6, 2:6] == 128).all()
    assert (small[:, 8:12, 2:6] == drawn[0]).all()


def test_words_never_seen_are_named(isthmus, door_run, tmp_path, caplog):
    result = isthmus("draw", door_run, "a circular thing", "--out", tmp_path / "x.png")
    assert result.code == 0
    assert caplog.messages == ["read: 1 of 3 words unknown: circular"]


def test_bad_pictures_get_one_line(isthmus, door_run, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    Image.new("RGB", (5, 7)).save(tmp_path / "large.png")
    whole = tmp_path / "half.png"
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(noise).save(whole)
    whole.write_bytes(whole.read_bytes()[:70])
    for name, words in {
        "no.png": "not a picture",
        "large.png": "7×5, expected 4×4",
        "half.png": "damaged",
        "absent.png": "does not exist",
    }.items():
        result = isthmus("caption", door_run, tmp_path / name)
        assert result.code == 1
        assert words in result.err
        assert "Traceback" not in result.err
        assert result.out == ""


def test_bad_texts_and_files_get_one_line(isthmus, door_run, tmp_path):
    assert "none of them empty" in isthmus("draw", door_run, " ", "--out", tmp_path / "x.png").err
    assert (
        "need the name of a .png"
        in isthmus("draw", door_run, "a", "--out", tmp_path / "x.gif").err
    )
    absent = tmp_path / "absent" / "x.png"
    assert "does not exist" in isthmus("draw", door_run, "a", "--out", absent).err


def test_runs_of_another_kind_are_refused(isthmus, run):
    for words in (["caption", run, "x.png"], ["draw", run, "a", "--out", "x.png"]):
        result = isthmus(*words)
        assert result.code == 1
        assert "is not a run on pictures with captions" in result.err


def test_encode_names_pictures_and_captions_alone(isthmus, door_run, paintings, tmp_path):
    assert isthmus("encode", door_run, paintings, "--out", tmp_path / "z.npz").code == 0
    with np.load(tmp_path / "z.npz") as stored:
        names, mean = texts_of_npz(stored, "example"), stored["mean"]
    assert names[:2] == ["00.png", "01.png"]
    assert names[-2:] == ["a red thing", "a blue thing"]
    examples = captioned.read(str(paintings)).examples
    np.testing.assert_allclose(mean, load(door_run).encode(examples).mean.numpy(), atol=1e-5)
    decoded = isthmus("decode", door_run, tmp_path / "z.npz", "--out", tmp_path / "z.png")
    assert decoded.code == 0, decoded.err
    texts = isthmus("decode", door_run, tmp_path / "z.npz").out.splitlines()
    assert len(texts) == 62


def test_texts_alone_pass_through_the_latent(isthmus, door_run):
    result = isthmus("reconstruct", door_run, "-", "--json", stdin=b"a red thing\na blue thing\n")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["example"] for record in records] == ["a red thing", "a blue thing"]
    model = load(door_run)
    z = model.encode([Example(caption="a red thing")]).mean
    assert records[0]["reconstruction"] == model.decode(z, Generation(part="caption"))[0]


def test_reconstruct_draws_a_sheet_of_both(isthmus, door_run, paintings, tmp_path):
    words = ["--limit", "5", "--out", tmp_path / "r.png"]
    result = isthmus("reconstruct", door_run, paintings, *words)
    assert result.code == 0, result.err
    assert result.out.startswith("00.png  ")
    with Image.open(tmp_path / "r.png") as image:
        shown = np.asarray(image)[::16, ::16]
    assert shown.shape == (2 + 2 * 6, 2 + 5 * 6, 3)
    first = captioned.read(str(paintings)).examples[0].picture
    assert (shown[2:6, 2:6] == np.moveaxis(first, 0, -1)).all()


def test_samples_and_walks_come_in_both_kinds(isthmus, door_run, paintings, tmp_path):
    assert len(isthmus("sample", door_run, "--count", "3").out.splitlines()) == 3
    assert isthmus("sample", door_run, "--count", "3", "--out", tmp_path / "s.png").code == 0
    ends = [paintings / "00.png", "a blue thing"]  # from a picture to a text
    walk = isthmus("interpolate", door_run, *ends, "--steps", "1")
    assert len(walk.out.splitlines()) == 3
    assert isthmus("interpolate", door_run, *ends, "--out", tmp_path / "w.png").code == 0
    near = isthmus("neighbours", door_run, paintings, "a red thing", "--count", "2")
    assert len(near.out.splitlines()) == 2


def test_a_report_shows_pictures_and_captions(isthmus, door_run, paintings, tmp_path):
    out = tmp_path / "report.html"
    result = isthmus("report", door_run, "--data", paintings, "--out", out, "--limit", "20")
    assert result.code == 0, result.err
    text = out.read_text(encoding="utf-8")
    corpus = captioned.read(str(paintings), limit=20)
    captions = [each.caption for each in corpus.examples[:12] if each.caption is not None]
    assert f"of {len(captions)} are reconstructed word for word" in text
    assert text.count('<img class="grid"') == 3  # returned, a walk, samples
    assert all(caption in text for caption in captions)
