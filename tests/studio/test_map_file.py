"""A map in a file: its columns by other ways, read back at once, and read by other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from isthmus.cli import main
from isthmus.models.base import summarised
from isthmus.runs import bundle
from isthmus.studio.space import Space


@pytest.fixture(scope="module")
def files(runs, tmp_path_factory) -> dict[str, Path]:
    """A map of the corpus by each of some runs."""
    folder = tmp_path_factory.mktemp("maps")
    for name in ("text", "grid", "summary"):
        path = folder / f"{name}.parquet"
        assert main(["encode", runs[name], runs["corpus"], "--out", str(path)]) == 0
    return {path.stem: path for path in folder.iterdir()}


def test_the_columns_are_what_the_model_says(clients, files):
    space = clients("text")[1]
    found = pandas.read_parquet(files["text"])
    assert found["text"].tolist() == space.corpus.texts
    assert found["label"].tolist() == space.corpus.labels
    posterior = space.model.encode(space.corpus.texts)
    mean, spread = np.stack(found["mean"]), np.stack(found["spread"])
    np.testing.assert_allclose(mean, posterior.mean, atol=1e-6)
    np.testing.assert_allclose(spread, posterior.standard_deviation, rtol=1e-5)
    terms = space.model.terms(space.corpus.texts)
    bound = terms.reconstruction + terms.kl_total
    np.testing.assert_allclose(found["bound"], bound, rtol=1e-5)
    assert np.abs(found["bound"] - found["reconstruction"] - found["kl"]).max() > 1e-3  # at means
    assert found[["x", "y"]].abs().to_numpy().max() == pytest.approx(1, abs=1e-6)


def test_neighbours_are_the_nearest_others(files):
    found = pandas.read_parquet(files["text"])
    mean = np.stack(found["mean"]).astype(float)
    distances = np.linalg.norm(mean[:, None] - mean, axis=2)
    np.fill_diagonal(distances, np.inf)
    for row, one in enumerate(found["neighbours"]):
        assert len(one["ids"]) == 15
        assert row not in one["ids"]
        np.testing.assert_allclose(one["distances"], np.sort(distances[row])[:15], atol=1e-5)
        np.testing.assert_allclose(distances[row][one["ids"]], one["distances"], atol=1e-5)


@pytest.mark.parametrize("name", ["text", "grid", "summary"])
def test_the_studio_reads_it_back_at_once(runs, clients, files, name):
    here = clients(name)[1].map
    back = Space(runs[name], str(files[name])).map
    assert back.done == len(back) == len(here)
    assert back.status()["projections"]["tsne"]["state"] == "ready"
    for _ in back.work():
        pass
    torch.testing.assert_close(back.mean, here.mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.posterior.mean, here.posterior.mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.posterior.log_variance, here.posterior.log_variance)
    torch.testing.assert_close(back.reconstruction, here.reconstruction)
    torch.testing.assert_close(back.kl, here.kl)
    np.testing.assert_allclose(back.points("pca"), here.points("pca"), atol=1e-4)


def test_what_is_not_its_map_is_encoded(runs, files, tmp_path, caplog):
    other = Space(runs["grid"], str(files["text"])).map
    assert other.done == 0
    assert "was written by another run; encoding its texts again" in caplog.text
    plain = tmp_path / "plain.parquet"
    pandas.read_parquet(files["text"]).to_parquet(plain)  # without our mark, as others write it
    caplog.clear()
    assert Space(runs["text"], str(plain)).map.done == 0
    assert not caplog.text


def test_a_map_with_numbers_that_are_none_is_encoded(runs, files, tmp_path, caplog):
    from pyarrow import parquet

    table = parquet.read_table(files["text"])
    place = table.column_names.index("kl")
    values = table["kl"].to_numpy().copy()
    values[3] = np.nan
    broken = table.set_column(place, "kl", [values]).replace_schema_metadata(table.schema.metadata)
    parquet.write_table(broken, tmp_path / "broken.parquet")
    assert Space(runs["text"], str(tmp_path / "broken.parquet")).map.done == 0
    assert (
        "is not a map as encode writes it (ValueError: numbers that are not finite)" in caplog.text
    )


@pytest.mark.parametrize("name", ["text", "grid", "summary"])
def test_decode_takes_it(runs, files, name, capsys):
    words = ["--json", "--max-new-tokens", "6"]
    assert main(["decode", runs[name], str(files[name]), *words]) == 0
    written = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    model = bundle.load(runs[name])
    texts = pandas.read_parquet(files[name])["text"].tolist()
    with summarised(model):
        mean = model.encode(texts).mean
    from isthmus.models.generation import Generation

    assert written == model.decode(mean, Generation(max_new_tokens=6))


def test_a_run_of_one_text_has_a_map_too(runs, tmp_path):
    (tmp_path / "one.txt").write_text("a b c\n", encoding="utf-8")
    path = tmp_path / "one.parquet"
    assert main(["encode", runs["text"], str(tmp_path / "one.txt"), "--out", str(path)]) == 0
    [row] = pandas.read_parquet(path).to_dict("records")
    assert row["text"] == "a b c"
    assert len(row["neighbours"]["ids"]) == 0
    assert "label" not in row
    assert Space(runs["text"], str(path)).map.done == 1


def test_refined_posteriors_have_no_map(runs, tmp_path, capsys):
    words = ["encode", runs["text"], runs["corpus"], "--out", str(tmp_path / "z.parquet")]
    assert main([*words, "--refine", "2"]) == 1
    assert "--refine: a map has the encoder's own posteriors" in capsys.readouterr().err
    assert not (tmp_path / "z.parquet").exists()


def test_embedding_atlas_reads_it(files, tmp_path):
    """Its own command, as docs/sharing.md has it, in a process of its own.

    In full it brings another torch. A few of its dependencies suffice, beside the environment:

        pip install --target DIR --no-deps embedding-atlas
        pip install --target DIR inquirer duckdb cryptography platformdirs
        PYTHONPATH=DIR pytest tests/studio/test_map_file.py -k atlas
    """
    if find_spec("embedding_atlas") is None:
        pytest.skip("no embedding-atlas; the test says how to install it beside the environment")
    (tmp_path / "static").mkdir()  # its page, which need not be copied
    words = "--text text --x x --y y --neighbors neighbours --static static"
    command = [sys.executable, "-m", "embedding_atlas.cli", str(files["text"]), *words.split()]
    command += ["--export-application", "app"]
    places = {f"XDG_{name}_HOME": str(tmp_path) for name in ("CACHE", "DATA", "CONFIG", "STATE")}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    data = json.loads((tmp_path / "app/data/metadata.json").read_text())["props"]["data"]
    assert data["projection"] == {"x": "x", "y": "y"}
    shown, written = (
        pandas.read_parquet(path)
        for path in (tmp_path / "app/data/dataset.parquet", files["text"])
    )
    assert shown[data["id"]].tolist() == list(range(90))  # what the ids of neighbours count
    for name in (data["text"], "label", "x", "y"):
        assert shown[name].tolist() == written[name].tolist()
    for one, other in zip(shown[data["neighbors"]], written["neighbours"], strict=True):
        assert one["ids"].tolist() == other["ids"].tolist()
        assert one["distances"].tolist() == other["distances"].tolist()


def test_latent_scope_reads_it(files, tmp_path, monkeypatch):
    ingest = pytest.importorskip("latentscope.scripts.ingest", reason="needs latentscope")
    monkeypatch.setenv("LATENT_SCOPE_DATA", str(tmp_path))
    ingest.ingest_file("map", str(files["text"]))
    meta = json.loads((tmp_path / "map" / "meta.json").read_text())
    assert meta["text_column"] == "text"
    assert meta["potential_embeddings"] == ["mean", "spread"]
    assert meta["length"] == 90
    assert meta["column_metadata"]["x"]["type"] == "number"
