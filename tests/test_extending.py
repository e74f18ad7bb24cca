"""Every example of docs/extending.md works in the one file that the page names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest

import isthmus

SOURCE = Path(isthmus.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)
FILES = {
    "BRIDGES": "models/bridges.py",
    "POSTERIORS": "latent/posterior.py",
    "PRIORS": "latent/prior.py",
    "READERS": "data/files.py",
}
RECORDS = "".join(
    f">{'up' if n % 2 else 'down'} of {n}\na b c\n b a{' c' * (n % 5)}\n" for n in range(40)
)
CHECKS = """
import math, torch
from isthmus.evaluation.usage import mutual_information
from isthmus.latent.posterior import POSTERIORS
from isthmus.latent.prior import PRIORS
from isthmus.latent.prior_module import PriorSizes, StandardNormal
from isthmus.models.bridges import BRIDGES
from isthmus.models.conditioning import DecoderShape

torch.manual_seed(0)
numbers = torch.randn(50, POSTERIORS["laplace"].numbers(3), dtype=torch.double)
q = POSTERIORS["laplace"].from_numbers(numbers, (3,))
stock = torch.distributions.Laplace(q.mean, numbers[:, 3:].exp())
z = q.rsample(noise=torch.randn(20_000, 50, 3, dtype=torch.double))
torch.testing.assert_close(q.log_prob(z), stock.log_prob(z).sum(-1))
torch.testing.assert_close(q.entropy(), stock.entropy().sum(-1))
torch.testing.assert_close(z.var(0), stock.variance, rtol=0.2, atol=0)
standard = StandardNormal(3)
estimate = (q.log_prob(z) - standard.log_prob(z)).mean(0)
torch.testing.assert_close(q.kl(standard).sum(1), estimate, atol=1.5, rtol=.05)
pairs = torch.stack([stock.log_prob(z[0][n]).sum(-1) for n in range(50)])
exact = pairs.diag() - (pairs.logsumexp(1) - math.log(50))
assert math.isclose(mutual_information(q, z[0]).value, exact.mean().item(), rel_tol=1e-6)

prior = PRIORS["scaled-normal"](PriorSizes((3,)))(None)
torch.testing.assert_close(prior.log_prob(z[0]), standard.log_prob(z[0]))
assert prior.sample(5).shape == (5, 3)
bridge = BRIDGES["nonlinear"](1, 3, DecoderShape(embedding_size=8), 1)
assert bridge(torch.randn(2, 1, 3)).embedding.shape == (2, 8)
"""
RUN = """
import sys
from contextlib import redirect_stdout
from isthmus.cli import main

with redirect_stdout(sys.stderr):
    recipe = ["--recipe", "recipe.toml", "--objective.norm", "0.5"]
    assert main(["train", "data.fasta", *recipe, "--out", "run"]) == 0
assert main(["evaluate", "run", "data.fasta", "--json"]) == 0
"""


def inserted(text: str, place: str, code: str, line: str) -> str:
    """The text of a file with code above the line that begins with ``place``, and one below it."""
    [found] = re.findall(rf"^{place}\b.*$", text, re.M)
    return text.replace(found, f"{code}\n\n{found}\n    {line}", 1)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder to import from: a copy of the package with everything that the page adds."""
    folder = tmp_path_factory.mktemp("extended")
    copy = folder / "isthmus"
    copytree(SOURCE, copy)  # with what is compiled already
    for language, block in BLOCKS:
        if language != "python":
            continue
        code, table, line = re.fullmatch(r"(.*)^# In (\w+): (.*)\n", block, re.M | re.S).groups()
        if table in FILES:
            path = copy / FILES[table]
            path.write_text(inserted(path.read_text(), table, code, line))
        else:
            weights, model = copy / "settings" / "objective.py", copy / "models" / "text_model.py"
            weights.write_text(
                weights.read_text().replace(
                    "    classification:", f"    {line}\n    classification:", 1
                )
            )
            model.write_text(
                model.read_text().replace("    def freeze(", f"{code}\n    def freeze(", 1)
            )
    (folder / "recipe.toml").write_text(dict(BLOCKS)["toml"])
    (folder / "data.fasta").write_text(RECORDS)
    return folder


def run(package: Path, *words: str) -> str:
    """Standard output of Python with the extended package."""
    environment = {**os.environ, "PYTHONPATH": str(package), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=package, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_them(package):
    text = run(package, "-m", "isthmus", "train", "--help")
    for name in ("nonlinear", "laplace", "scaled-normal", ".fasta", "--objective.norm"):
        assert name in text, name


def test_each_part_does_what_it_says_and_a_run_uses_all_of_them(package):
    metrics = json.loads(run(package, "-c", CHECKS + RUN))
    config = json.loads((package / "run" / "config.json").read_text())
    chosen = [config[key] for key in ("bridge", "posterior", "prior")]
    assert chosen == ["memory+nonlinear", "laplace", "scaled-normal"]
    assert (package / "run" / "curves.png").is_file()
    log = [json.loads(line) for line in (package / "run" / "log.jsonl").read_text().splitlines()]
    assert max(row.get("norm", 0) for row in log) > 0
    assert metrics["sentences"] == 40
    assert 0 < metrics["mutual_information"] <= metrics["mutual_information_limit"]
