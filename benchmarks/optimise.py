"""Does a search in a space find better molecules than chance, at as many calls?

QED and penalised logP (examples/objectives.py) over the space of a run on SMILES: CMA-ES as
``isthmus optimise`` has it, draws of the same prior, and molecules of the data; 1,000 different
molecules each, five seeds. A molecule counts once, however many strings of it are found. Every
call is kept in runs/optimise, and a benchmark that was stopped goes on. The run of the results:

    isthmus train DATA --recipe benchmarks/optimise.toml --data.limit 60000 --out runs/molecules
    python benchmarks/optimise.py runs/molecules DATA
    python benchmarks/optimise.py RUN DATA --short    # 60 calls, two seeds, no results
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem

import isthmus
from common import RESULTS, RUNS, one_thread, plus_minus, table, write
from isthmus.commands.optimise import imported
from isthmus.evaluation.searching import NAMES, Searched
from isthmus.explore.ways import Call

OBJECTIVES = {"qed": "QED", "penalised_logp": "penalised logP"}
EXAMPLES = Path(__file__).parents[1] / "examples" / "objectives.py"


WAYS = ("search", "random", "data")


def of_molecules(calls: Sequence[Call]) -> list[Call]:
    """The calls, those that name a molecule that was named before left out."""
    kept: dict[str, Call] = {}
    for call in calls:
        found = None if call.value is None else Chem.MolFromSmiles(call.text)
        name = call.text if found is None else Chem.MolToSmiles(found)
        kept.setdefault(name, call._replace(text=name))
    return list(kept.values())


def atoms(text: str) -> str:
    """The heavy atoms of a SMILES string, in order of the alphabet."""
    return "".join(sorted(sign for sign in text.upper() if sign.isalpha() and sign != "H"))


def is_new(text: str, alike: dict[str, list[str]]) -> bool:
    """Whether no string of the data with the same atoms is the same molecule."""
    others = alike.get(atoms(text), [])
    return text not in {Chem.MolToSmiles(Chem.MolFromSmiles(other)) for other in others}


def figures_of(found: Searched, alike: dict[str, list[str]]) -> dict[str, Any]:
    """The figures of one objective with its ten best molecules."""
    figures, best = found.figures(), found.best()
    figures["gain_over_random_in_standard_errors"] = (
        figures["gain_over_random"] / figures["gain_over_random_se"]
    )
    rows = [{"value": one.value, "text": one.text, "new": is_new(one.text, alike)} for one in best]
    return {**figures, "best": rows}


def lines(found: dict[str, dict[str, Any]], about: dict[str, Any]) -> list[str]:
    """The report."""
    text = [
        f"Space: {about['latent_size']} dimensions, {about['sentences']:,} molecules of MOSES, "
        f"{about['seconds'] / 60:.0f} minutes of training on one core, prior "
        f"{about['prior']}. {about['calls']:,} calls for each way and seed, {about['seeds']} "
        "seeds, means ± standard errors over seeds.",
        "",
    ]
    for name, figures in found.items():
        rows = [
            [
                NAMES[way],
                *(
                    plus_minus(figures[f"{way}_{key}"], figures[f"{way}_{key}_se"], digits)
                    for key, digits in (("ten_best", 4), ("best", 4), ("failed", 0))
                ),
            ]
            for way in WAYS
        ]
        gain = plus_minus(figures["gain_over_random"], figures["gain_over_random_se"], 4)
        text += [f"## {OBJECTIVES[name]}", ""]
        text += table(["", "mean of ten best", "best", "no molecule"], rows)
        text += [
            "",
            f"The search is {gain} above random search, "
            f"{figures['gain_over_random_in_standard_errors']:.1f} standard errors of the "
            f"difference within a seed. {sum(one['new'] for one in figures['best'])} of its ten "
            "best molecules are not in the data:",
            "",
            *(f"    {one['value']:.4f}  {one['text']}" for one in figures["best"]),
            "",
        ]
    return text


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run")
    words.add_argument("data")
    words.add_argument("--short", action="store_true")
    given = words.parse_args()
    one_thread()
    calls, seeds = (60, 2) if given.short else (1000, 5)
    space = isthmus.Space.load(given.run)
    texts = isthmus.read(given.data, split="train").texts
    alike: dict[str, list[str]] = {}
    for text in texts:
        alike.setdefault(atoms(text), []).append(text)
    about = {
        "calls": calls,
        "seeds": seeds,
        "latent_size": space.size,
        "prior": space.config.prior,
        "sentences": space.run["data"]["sentences"],
        "seconds": space.run["seconds"],
        "settings": space.settings,
        "data": space.run["data"],
    }
    folder, found = RUNS / "optimise" / Path(given.run).name, {}
    for name in OBJECTIVES:
        objective = imported(f"{EXAMPLES}:{name}")
        options = {"calls": calls, "seeds": seeds, "folder": folder / name}
        searched = space.optimise(objective, texts, **options)
        searched = Searched(
            [{way: of_molecules(calls) for way, calls in run.items()} for run in searched.runs]
        )
        found[name] = figures_of(searched, alike)
        text = "\n".join(lines(found, about))
        if given.short:
            print(text)
            continue
        searched.draw(RESULTS / f"optimise_{name}.png", OBJECTIVES[name])
        write("optimise", {**about, **found}, text)


if __name__ == "__main__":
    main()
