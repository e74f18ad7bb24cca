"""Decisions of an expert: a sign list that follows from the tables, or one line why not."""

import csv

import numpy as np
import pytest
from planted import script

from isthmus.errors import IsthmusError
from isthmus.signs.candidates import Merge, Split
from isthmus.signs.decisions import apply_decisions, check_undecided, write_tables


@pytest.fixture
def folder(tmp_path):
    """Pictures 0–6 called a, b, c, s, s, s, b in clusters 0 0 0 0 1 1 0."""
    names = ["a", "b", "c", "s", "s", "s", "b"]
    order = [[0, 1, 1, 1, 2, 3, 4, 4, 5, 6]]
    clusters = np.asarray([0, 0, 0, 0, 1, 1, 0])
    merges = [Merge((0, 1), 0, 1.0), Merge((1, 2), 0, 2.0), Merge((0, 3), 0, 3.0)]
    merges.append(Merge((0, 1, 2), 0, 2.5))
    splits = [Split("s", {1: [4, 5], 0: [3]})]
    signs = script(names, [0] * 7, order)
    write_tables(tmp_path, signs, names, clusters, np.ones(7), merges, np.ones(4), splits)
    return tmp_path


def decide(folder, table, **decisions):
    """Fill in decisions: row1="merge"."""
    path = folder / table
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for row, decision in decisions.items():
        rows[int(row.removeprefix("row")) - 1][0] = decision
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def sign_list(folder):
    with apply_decisions(folder).open(encoding="utf-8", newline="") as file:
        return [row["sign"] for row in csv.DictReader(file)]


def test_without_decisions_nothing_changes(folder):
    assert sign_list(folder) == ["a", "b", "c", "s", "s", "s", "b"]


def test_merged_names_take_the_most_frequent_one(folder):
    decide(folder, "merges.csv", row1="merge", row2="keep")
    assert sign_list(folder) == ["b", "b", "c", "s", "s", "s", "b"]


def test_merges_chain(folder):
    decide(folder, "merges.csv", row1="merge", row2=" Merge ")
    assert sign_list(folder) == ["b", "b", "b", "s", "s", "s", "b"]
    decide(folder, "merges.csv", row1="", row2="", row4="merge")
    assert sign_list(folder) == ["b", "b", "b", "s", "s", "s", "b"]


def test_a_split_parts_a_name_by_cluster_the_most_frequent_first(folder):
    decide(folder, "splits.csv", row1="split")
    assert sign_list(folder) == ["a", "b", "c", "s/2", "s/1", "s/1", "b"]


def test_a_part_of_a_split_name_can_be_merged(folder):
    decide(folder, "splits.csv", row1="split")
    decide(folder, "merges.csv", row3="merge")
    assert sign_list(folder) == ["a", "b", "c", "a", "s/1", "s/1", "b"]
    decide(folder, "splits.csv", row1="keep")
    assert sign_list(folder) == ["s", "b", "c", "s", "s", "s", "b"]


def test_keeping_three_apart_allows_two_of_them_to_be_one(folder):
    decide(folder, "merges.csv", row1="merge", row4="keep")
    assert sign_list(folder)[:3] == ["b", "b", "c"]


def test_contradictions_are_told_in_one_line_and_nothing_is_written(folder):
    decide(folder, "merges.csv", row1="merge", row2="merge", row4="keep")
    with pytest.raises(IsthmusError, match="a, b, c are kept apart and merged") as error:
        apply_decisions(folder)
    assert "\n" not in str(error.value)
    assert not (folder / "signlist.csv").exists()


def test_parts_that_a_chain_joins_again(tmp_path):
    names = ["a", "a", "b", "b"]
    signs = script(names, [0] * 4)
    merges = [Merge((0, 2), 0, 1.0), Merge((1, 3), 1, 1.0)]
    splits = [Split("a", {0: [0], 1: [1]})]
    clusters = np.asarray([0, 1, 0, 1])
    agreement = np.ones(len(merges))
    write_tables(tmp_path, signs, names, clusters, np.ones(4), merges, agreement, splits)
    decide(tmp_path, "merges.csv", row1="merge", row2="merge")
    assert sign_list(tmp_path) == ["a"] * 4
    decide(tmp_path, "splits.csv", row1="split")
    with pytest.raises(IsthmusError, match="a is split and merged again"):
        apply_decisions(tmp_path)


def test_an_unknown_word_names_file_and_row(folder):
    decide(folder, "merges.csv", row2="yes")
    with pytest.raises(IsthmusError, match=r"merges\.csv: row 3: got the decision 'yes'"):
        apply_decisions(folder)


def test_tables_of_a_spreadsheet_with_semicolons(folder):
    decide(folder, "merges.csv", row1="merge")
    for table in ("signs.csv", "merges.csv", "splits.csv"):
        text = (folder / table).read_text(encoding="utf-8").replace(",", ";")
        (folder / table).write_text("\ufeff" + text, encoding="utf-8")
    assert sign_list(folder)[:3] == ["b", "b", "c"]


def test_a_new_report_does_not_overwrite_decisions(folder):
    check_undecided(folder)
    decide(folder, "splits.csv", row1="keep")
    with pytest.raises(IsthmusError, match="holds decisions"):
        check_undecided(folder)


def test_not_a_report(tmp_path):
    (tmp_path / "signs.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(IsthmusError, match="no column"):
        apply_decisions(tmp_path)
