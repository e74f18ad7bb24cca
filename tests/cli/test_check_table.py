"""``isthmus check-table`` from end to end."""

import json

import pytest

T5 = """model,PPL,KL,−ELBO,MI,AU
Max pool,20.90,0.21,343.02,0.04,0
+ Denoise,30.13,41.49,301.86,1.32,24
+ Denoise + KLT,60.44,119.89,223.69,4.73,29
+ Deep,54.40,155.50,140.57,5.43,28
"""
HONEST = (
    "model\tPPL\tKL\t-ELBO\tIW-NLL\nA\t20.09\t2.00\t60.00\t59.80\nB\t54.60\t9.00\t80.00\t79.10"
)


@pytest.fixture
def table(isthmus, tmp_path):
    """Check the content of a file."""

    def table(content, *words, name="table.csv"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return isthmus("check-table", tmp_path / name, *words)

    return table


def test_a_broken_table_is_code_1_and_explained(table):
    result = table(T5)
    assert result.code == 1
    *lines, last = result.out.splitlines()
    assert last == "6 broken, 2 suspicious"
    assert len(lines) == 8
    assert "+ Denoise: true −ELBO = reconstruction 343.35 + KL 41.49 = 384.84" in result.out
    assert "likely: the column is reconstruction − KL instead of" in result.out
    assert "ln N = 5.55" in result.out
    assert "the reconstruction stays at 343.23 to 343.58" in result.out
    assert "checked 4 rows: −ELBO ≥ KL" in result.err


def test_json_has_one_finding_a_line(table):
    result = table(T5, "--json")
    assert result.code == 1
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [one["severity"] for one in records] == ["broken"] * 6 + ["suspicious"] * 2
    bounds = {
        r["lines"][0]: r["values"].get("negative_elbo") for r in records if len(r["rows"]) == 1
    }
    assert bounds[3] == pytest.approx(384.84)
    assert all(one["message"] and one["identity"] for one in records)


def test_an_honest_table_is_code_0(table, isthmus):
    result = table(HONEST, name="table.tsv")
    assert (result.code, result.out) == (0, "0 broken, 0 suspicious\n")
    assert table(HONEST, "--json").out == ""
    piped = isthmus("check-table", "-", stdin=HONEST.encode())
    assert (piped.code, piped.out) == (0, result.out)


def test_a_suspicious_table_is_code_0(table):
    result = table("MI,N\n9.18,10000\n")
    assert result.code == 0
    assert "0 broken, 1 suspicious" in result.out


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "is empty"),
        ("PPL,KL\n", "a header and no rows"),
        ("\u2028\n,\n", "has no row"),
        ("model,BLEU\nA,3\n", "expected some of PPL, KL"),
        (
            "PPL;KL\n20,90;-\n",
            "no numbers to check; line 2, column 'PPL': '20,90' is not a number",
        ),
        ("PPL,KL\n1,2\n3\n", "line 3 has 1 cells, the header 2"),
    ],
)
def test_what_is_no_table_gets_one_line(table, content, part):
    result = table(content)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("isthmus: ")
    assert result.err.count("\n") == 1
    assert part in result.err


def test_a_missing_file_and_wrong_usage(isthmus, tmp_path):
    missing = isthmus("check-table", tmp_path / "none.csv")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert "none.csv cannot be read: No such file" in missing.err
    assert isthmus("check-table").code == 2
