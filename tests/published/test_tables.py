"""Tables with planted faults are found out, honest ones are left alone, whatever the rounding."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import IsthmusError
from isthmus.published.identities import check, checked
from isthmus.published.perplexities import agreeing, implied
from isthmus.published.printed import Interval, header_key, parse_number, read_table

T5 = """model,PPL,KL,−ELBO,MI,AU
Max pool,20.90,0.21,343.02,0.04,0
+ Denoise,30.13,41.49,301.86,1.32,24
+ Denoise + KLT,60.44,119.89,223.69,4.73,29
+ Deep,54.40,155.50,140.57,5.43,28
"""
"""Park & Lee 2021, Yahoo, five printed columns."""
QUOTED = "Optimus,23.11,17.45,301.21,8.85,32\nLi 2019,59.24,7.44,328.73,6.41,32\n"
PPL = "−ELBO / ln PPL = tokens per sentence, the same in all rows"


def findings(text, severity=None):
    found = check(read_table(text, "table.csv"))
    return [one for one in found if severity in (None, one.severity)]


def of(text, identity):
    """The only finding about an identity."""
    [found] = [one for one in findings(text) if one.identity == identity]
    return found


def printed(rows, digits=2):
    """A CSV file of rows of numbers, rounded."""
    lines = [",".join(rows[0])]
    lines += [
        ",".join(v if isinstance(v, str) else f"{v:.{digits}f}" for v in row.values())
        for row in rows
    ]
    return "\n".join(lines)


@st.composite
def true_rows(draw, least=2, kl=(0.0, 60.0), perplexity=(1.1, 500.0)):
    """Rows of one dataset from true values; every identity holds in them."""
    tokens = draw(st.floats(5, 150))
    return [
        draw(true_row(tokens, st.floats(*kl), st.floats(*perplexity)))
        for _ in range(draw(st.integers(least, 6)))
    ]


@st.composite
def true_row(draw, tokens, kls, perplexities):
    reconstruction, kl = tokens * math.log(draw(perplexities)), draw(kls)
    active = draw(st.integers(1, 32)) if kl > 0.2 else 0
    return {
        "PPL": math.exp((reconstruction + kl) / tokens),
        "KL": kl,
        "-ELBO": reconstruction + kl,
        "reconstruction": reconstruction,
        "IW-NLL": reconstruction + draw(st.floats(0, 1)) * kl,
        "MI": min(kl, 6) * draw(st.floats(0, 1)) if active else 0.0,
        "AU": str(active),
        "latent size": "32",
        "pool": "1000",
        "tokens per sentence": tokens,
    }


def without(rows, *columns):
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


@settings(deadline=None)
@given(true_rows(), st.integers(0, 3), st.sets(st.sampled_from(["reconstruction", "IW-NLL"])))
def test_rounding_breaks_nothing(rows, digits, dropped):
    assert findings(printed(without(rows, *dropped), digits)) == []


@settings(deadline=None, max_examples=30)
@given(true_rows(), st.floats(0.1, 0.6))
def test_importance_weighted_perplexities_break_nothing(rows, share):
    """They lie below exp(−ELBO / tokens): an inequality, not an error."""
    for row in rows:
        row["IW-NLL"] = row["-ELBO"] - share * row["KL"]
        row["PPL"] = math.exp(row["IW-NLL"] / row["tokens per sentence"])
    assert findings(printed(rows)) == [], "with the weighted bound"
    bare = without(rows, "IW-NLL", "reconstruction")
    assert findings(printed(bare), "broken") == []


@settings(deadline=None, max_examples=50)
@given(true_rows(perplexity=(5, 500)), st.floats(0.1, 0.6))
def test_small_gains_of_importance_weights_are_no_more_than_noted(rows, share):
    for row in rows:
        row["KL"] *= row["-ELBO"] / 60 * 0.07  # up to 7 %, of which the weights gain up to 4.2
        row["PPL"] = math.exp((row["-ELBO"] - share * row["KL"]) / row["tokens per sentence"])
    bare = without(rows, "IW-NLL", "reconstruction", "MI", "AU")
    assert {one.severity for one in findings(printed(bare))} <= {"note"}


def sign(row):
    row["-ELBO"] = row["reconstruction"] - row["KL"]


FAULTS = {
    "−ELBO = reconstruction + KL": sign,
    "−ELBO ≥ 0": lambda row: row.update({"-ELBO": -row["-ELBO"]}),
    "KL ≥ 0": lambda row: row.update({"KL": -row["KL"]}),
    "reconstruction ≥ 0": lambda row: row.update(reconstruction=-row["reconstruction"]),
    "IW-NLL ≤ −ELBO": lambda row: row.update({"IW-NLL": row["-ELBO"] + 0.5}),
    "IW-NLL ≥ 0": lambda row: row.update({"IW-NLL": -row["IW-NLL"] - 1}),
    "MI ≤ ln N": lambda row: row.update(MI=math.log(1000) + 0.02),
    "MI ≤ KL": lambda row: row.update(MI=row["KL"] + 0.2),
    "MI ≥ 0": lambda row: row.update(MI=-0.2),
    "AU ≤ latent size": lambda row: row.update(AU="33"),
    "AU ≥ 0": lambda row: row.update(AU="-1"),
    "PPL ≥ 1": lambda row: row.update(PPL=0.5),
    "PPL = exp(−ELBO / tokens)": lambda row: row.update(PPL=1.1 * row["PPL"] ** 2),
}


@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("identity", FAULTS)
@given(rows=true_rows(kl=(0.5, 60)), data=st.data())
def test_planted_faults_are_found_in_their_row(identity, rows, data):
    line = data.draw(st.integers(0, len(rows) - 1))
    FAULTS[identity](rows[line])
    found = [one for one in findings(printed(rows), "broken") if one.identity == identity]
    assert [[row.line for row in one.rows] for one in found] == [[line + 2]]


@settings(deadline=None, max_examples=20)
@given(rows=true_rows(kl=(0.5, 60)))
@pytest.mark.parametrize("part", ["reconstruction", "KL"])
def test_bound_below_one_of_its_parts(part, rows):
    other = {"reconstruction": "KL", "KL": "reconstruction"}[part]
    kept = without(rows, other, "PPL", "IW-NLL", "MI", "AU")
    kept[0]["-ELBO"] = kept[0][part] - 0.12
    [found] = findings(printed(kept))
    assert (found.severity, found.identity) == ("broken", f"−ELBO ≥ {part}")
    assert found.rows[0].line == 2


@settings(deadline=None, max_examples=50)
@given(true_rows(least=3, perplexity=(10, 500)), st.sampled_from(["2 sign error", "1 alone"]))
def test_misprinted_column_is_found_from_three_columns(rows, fault):
    """PPL, KL and "−ELBO" alone, where the KL differs enough to move the bound."""
    times, words = int(fault[0]), fault[2:]
    for index, row in enumerate(rows):
        # rising shares of the bound, so that no two rows are moved alike
        row["KL"] = row["-ELBO"] * (0.04 + 0.09 * index)
        row["-ELBO"] -= times * row["KL"]
    text = printed(without(rows, "reconstruction", "IW-NLL", "MI", "AU", "tokens per sentence"))
    [column, *corrected] = [one for one in findings(text, "broken") if one.identity == PPL]
    assert words in column.likely
    assert len(column.rows) == len(rows)
    assert column.values["tokens"] == pytest.approx(rows[0]["tokens per sentence"], rel=2e-3)
    for one, row in zip(corrected, rows, strict=True):
        true = row["-ELBO"] + times * row["KL"]
        assert one.values["negative_elbo"] == pytest.approx(true, abs=0.02)


@settings(deadline=None, max_examples=50)
@given(true_rows(least=3, perplexity=(10, 500)))
def test_perplexity_of_the_reconstruction_is_found(rows):
    for index, row in enumerate(rows):
        row["KL"] = row["-ELBO"] * (0.04 + 0.09 * index)
        nats = row["-ELBO"] - row["KL"]
        row["PPL"] = math.exp(nats / row["tokens per sentence"])
    text = printed(without(rows, "reconstruction", "IW-NLL", "MI", "AU", "tokens per sentence"))
    [column, *corrected] = [one for one in findings(text, "broken") if one.identity == PPL]
    assert "perplexity is that of the reconstruction alone" in column.likely
    for one, row in zip(corrected, rows, strict=True):
        true = math.exp(row["-ELBO"] / row["tokens per sentence"])
        assert one.values["perplexity"] == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize("text", [T5, T5 + QUOTED], ids=["alone", "with quoted rows"])
def test_sign_of_the_t5_table(text):
    column, *corrected = [one for one in findings(text, "broken") if one.identity == PPL]
    assert column.values["tokens"] == pytest.approx(113.0, abs=0.01)
    assert column.values["spread_as_printed"] > 0.6
    assert column.values["spread_corrected"] < 3e-4
    assert "(“−ELBO” + 2·KL) / ln PPL is 113.0 in all 4 rows" in column.message
    true = [one.values["negative_elbo"] for one in corrected]
    assert true == pytest.approx([343.44, 384.84, 463.47, 451.57])
    reconstruction = [one.values["reconstruction"] for one in corrected]
    assert reconstruction == pytest.approx([343.23, 343.35, 343.58, 296.07])
    unused = of(text, "KL buys reconstruction")
    assert [row.name for row in unused.rows] == ["Max pool", "+ Denoise", "+ Denoise + KLT"]
    assert unused.values["kl_rise"] == pytest.approx(119.68)
    # the last row is impossible by itself: a reconstruction of −14.93 nats
    assert [row.name for row in of(text, "−ELBO ≥ KL").rows] == ["+ Deep"]


def test_sign_of_two_rows_is_only_likely():
    """One coincidence may be chance."""
    two = [one for one in findings("\n".join(T5.splitlines()[:3])) if one.identity == PPL]
    assert {one.severity for one in two} == {"suspicious"}
    assert "sign error" in two[0].likely
    mixed = "\n".join(T5.splitlines()[:3]) + "\n" + QUOTED
    assert not [one for one in findings(mixed) if "sign error" in one.likely]


def test_sign_below_importance_weights_is_likely():
    """The rows agree only roughly, but far better than as printed."""
    rows = []
    for bound, kl, gap in ((343, 2, 0.001), (385, 41, 0.02), (463, 120, 0.035), (452, 155, 0.04)):
        ppl = math.exp(bound * (1 - gap) / 113)
        rows.append({"PPL": ppl, "KL": float(kl), "-ELBO": float(bound - 2 * kl)})
    column, *_ = [one for one in findings(printed(rows)) if one.identity == PPL]
    assert (column.severity, "sign error" in column.likely) == ("suspicious", True)


def test_honest_rows_in_two_units_are_converted():
    """Yahoo: 95.9 subwords or 80.5 words per document."""
    head = "model,PPL,KL,-ELBO,MI,AU\n"
    apart, converted = [one for one in findings(head + QUOTED) if one.identity == PPL]
    assert {apart.severity, converted.severity} == {"suspicious"}
    assert (apart.values["fewest"], apart.values["most"]) == pytest.approx(
        (80.54, 95.92), abs=0.01
    )
    assert converted.rows[0].name == "Optimus"
    assert converted.values["perplexity"] == pytest.approx(math.exp(301.21 / 80.54), rel=1e-3)
    assert "42.1" in f"{converted.values['perplexity']:.1f}"
    assert not findings(head + QUOTED, "broken")
    separate = "dataset," + head + "a," + QUOTED.replace("\n", "\nb,", 1)
    assert not [one for one in findings(separate) if one.identity == PPL]


def test_words_with_a_perplexity_of_subwords():
    text = "model,PPL,KL,-ELBO,words per sentence\nOptimus,23.11,17.45,301.21,80.5\n"
    [found] = findings(text)
    assert (found.severity, found.identity) == ("suspicious", "PPL = exp(−ELBO / tokens)")
    assert found.values["tokens"] == pytest.approx(95.92, abs=0.01)
    assert found.values["perplexity"] == pytest.approx(42.17, abs=0.01)
    [small] = findings(text.replace("80.5", "94.0"))
    assert small.severity == "note", "importance weights may gain 2 %"
    [marks] = findings(text.replace("80.5", "97.0"))
    assert (marks.severity, "start or the end" in marks.likely) == ("suspicious", True)
    [above] = findings(text.replace("80.5", "99.0"))
    assert above.severity == "broken", "nothing gives a perplexity above that of −ELBO"


def test_perplexity_between_two_bounds_is_of_another_k():
    head = "PPL,-ELBO,IW-NLL,tokens\n"
    assert findings(head + f"{math.exp(98 / 20):.2f},100.00,96.00,20.00\n") == []
    [below] = findings(head + f"{math.exp(95 / 20):.2f},100.00,96.00,20.00\n")
    assert below.severity == "suspicious"


def test_tokens_of_a_whole_test_set_are_divided_by_its_sentences():
    head = "PPL,-ELBO,tokens,sentences\n"
    assert findings(head + f"{math.exp(100 / 20):.2f},100.00,20000,1000\n") == []


def test_information_at_its_ceiling():
    """The autoencoder rows in the Optimus paper: the ceiling, and above it."""
    text = "model,MI,N\nPTB,8.22,3761\nYelp,9.24,10000\nYahoo,9.26,10000\nSNLI,9.18,10000\n"
    assert [(one.rows[0].name, one.severity) for one in findings(text)] == [
        ("Yelp", "broken"),
        ("Yahoo", "broken"),
        ("PTB", "suspicious"),
        ("SNLI", "suspicious"),
    ]
    half = "model,MI,N\nmiddling,4.60,10000\n"
    assert findings(half) == []


@pytest.mark.parametrize(
    ("information", "size"),
    [("5.43", 256), ("8.22", 3761), ("9.24", 10_000), ("9.18", 10_000), ("3.45", 32)],
)
def test_information_at_a_usual_ceiling(information, size):
    [found] = findings(f"MI\n{information}\n")
    assert found.severity == "suspicious"
    assert found.values["n"] == size
    assert findings(f"MI,N\n{information},1000000\n") == [], "N is known and another"


@pytest.mark.parametrize("information", ["4.73", "8.85", "1.32", "7.42", "0.04"])
def test_information_below_usual_ceilings_is_left_alone(information):
    assert findings(f"MI\n{information}\n") == []


def test_the_pool_is_what_bounds_the_information():
    """Not the test set, where both are printed."""
    assert of("MI,N,pool\n5.43,10000,256\n", "MI ≤ ln N").values["n"] == 256
    assert of("MI,N,pool\n5.60,10000,256\n", "MI ≤ ln N").severity == "broken"


def test_active_units_and_the_other_signs_of_life():
    idle = of("KL,AU\n0.00,5\n", "KL > 0 where AU > 0")
    assert idle.values["at_least"] == pytest.approx(5 * 0.005, rel=0.02)
    assert findings("KL,AU\n0.03,5\n") == []
    assert findings("KL,AU\n0,5\n") == [], "0 may be 0.49"
    assert of("MI,AU\n1.50,0\n", "AU > 0 where MI > 0").severity == "suspicious"
    assert findings("MI,AU\n0.04,0\n") == []


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("KL,MI\n0.00,0.05\n", "MI ≤ KL"),
        ("MI\n-0.05\n", "MI ≥ 0"),
        ("-ELBO,IW-NLL\n100.00,100.05\n", "IW-NLL ≤ −ELBO"),
        ("rec,KL,-ELBO\n100.00,10.00,110.05\n", "−ELBO = reconstruction + KL"),
        ("rec,KL,-ELBO\n100.00,10.00,109.95\n", "−ELBO = reconstruction + KL"),
        ("rec,-ELBO\n100.00,99.95\n", "−ELBO ≥ reconstruction"),
    ],
)
def test_noise_of_samples_is_only_suspicious(text, identity):
    assert of(text, identity).severity == "suspicious"


def test_what_is_called_nll_may_be_importance_weighted():
    text = "rec,KL,{}\n100.00,10.00,108.00\n"
    assert of(text.format("-ELBO"), "−ELBO = reconstruction + KL").severity == "broken"
    weaker = of(text.format("NLL"), "−ELBO = reconstruction + KL")
    assert (weaker.severity, "importance" in weaker.likely) == ("suspicious", True)
    above = text.replace("108", "112")
    assert of(above.format("NLL"), "−ELBO = reconstruction + KL").severity == "broken"


@pytest.mark.parametrize(
    ("bound", "likely"),
    [("90.00", "sign of the KL"), ("100.00", "KL is left out"), ("105.00", "counts 0.50 times")],
)
def test_likely_errors_of_a_wrong_sum(bound, likely):
    found = of(f"rec,KL,-ELBO\n100.00,10.00,{bound}\n", "−ELBO = reconstruction + KL")
    assert likely in found.likely
    assert found.values == pytest.approx({"printed": float(bound), "expected": 110})


def test_elbo_is_turned_by_its_sign():
    assert findings("rec,KL,ELBO\n100.00,10.00,−110.00\n") == []
    [note] = findings("rec,KL,ELBO\n100.00,10.00,110.00\n")
    assert (note.severity, "read as −ELBO" in note.message) == ("note", True)
    assert findings("rec,KL,ELBO\n100.00,10.00,-90.00\n", "broken")


@given(st.decimals(0, 10_000, places=6), st.integers(0, 5))
def test_a_printed_number_contains_the_true_one(true, digits):
    span = parse_number(f"{true:.{digits}f}")
    assert span.low <= float(true) <= span.high
    assert span.high - span.low == pytest.approx(10**-digits, rel=1e-6)


@given(*[st.tuples(st.floats(-9, 9), st.floats(0, 1), st.floats(0, 1)) for _ in range(2)])
def test_intervals_contain_what_their_members_give(one, two):
    (a, width, share), (b, wide, part) = one, two
    first, second = Interval(a, a + width), Interval(b, b + wide)
    x, y = a + share * width, b + part * wide

    def holds(span, value):
        return span.low - 1e-9 <= value <= span.high + 1e-9

    assert holds(first + second, x + y)
    assert holds(first - second, x - y)
    assert holds(first * second, x * y)
    assert holds(first * -2, -2 * x)
    assert holds(first.exp(), math.exp(x))
    if b > 0.1:
        assert holds(first / second, x / y)
        assert holds(second.log(), math.log(y))


@given(st.lists(st.tuples(st.floats(1, 200), st.floats(0.5, 20)), min_size=1, max_size=8))
def test_the_largest_agreeing_group_is_found(rows):
    """Against trying every subset."""
    table = read_table(
        "PPL,-ELBO\n" + "".join(f"{math.e**2:.3f},{low:.1f} ± {wide:.2f}\n" for low, wide in rows),
        "table.csv",
    )
    able = [row for row in table.rows if row["bound"].low > 0]
    spans = [implied(row).widened(0.001) for row in able]
    best = 0
    for subset in range(1 << len(spans)):
        chosen = [span for i, span in enumerate(spans) if subset >> i & 1]
        if chosen and max(s.low for s in chosen) <= min(s.high for s in chosen):
            best = max(best, len(chosen))
    assert len(agreeing(able, 0, 0.001)) == best


@pytest.mark.parametrize(
    ("cell", "low", "high"),
    [
        ("20.90", 20.895, 20.905),
        ("−0.5", -0.55, -0.45),
        (" **343** ", 342.5, 343.5),
        ("3,761", 3760.5, 3761.5),
        ("≤ 59.24", 59.235, 59.245),
        ("20.9 ± 0.3", 20.55, 21.25),
        ("4.0e66", 3.95e66, 4.05e66),
        (".5", 0.45, 0.55),
    ],
)
def test_cells(cell, low, high):
    span = parse_number(cell)
    assert (span.low, span.high) == pytest.approx((low, high))


@pytest.mark.parametrize("cell", ["", " - ", "–", "n/a", "NA"])
def test_cells_without_a_number(cell):
    assert parse_number(cell) is None


@pytest.mark.parametrize("cell", ["abc", "nan", "inf", "1_000", "12,34", "1e400", "2 of 3", "± 1"])
def test_cells_that_are_no_number_are_noted_and_the_rest_is_checked(cell):
    text = f'model,KL,-ELBO,MI\nA,"{cell}",100.00,-3.00\n'
    broken, note = findings(text)
    assert broken.identity == "MI ≥ 0"
    assert note.severity == "note"
    assert "line 2, column 'KL'" in note.message


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("−ELBO (nats) ↓", "-elbo"),
        ("Negative_ELBO", "negativeelbo"),
        ("IW-NLL", "iwnll"),
        ("Tokens / sentence", "tokenssentence"),
        ("KL (bits)", "klbits"),
    ],
)
def test_headers(header, key):
    assert header_key(header) == key


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_separators_and_a_spreadsheet_s_line_ends(separator):
    text = separator.join(["Model", "kl", "mi"]) + "\r\n" + separator.join(["A", "1.00", "2.00"])
    assert of(text + "\r\n\r\n", "MI ≤ KL").rows[0].name == "A"


def test_columns_that_are_not_read_are_noted():
    [note] = findings("model,KL,KL (bits),swap gap\nA,1.00,1.44,2\n")
    assert (note.severity, note.rows) == ("note", ())
    assert "'KL (bits)', 'swap gap'" in note.message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["table.csv is empty", "expected a header row"]),
        ("\n \n", ["is empty"]),
        ("PPL,KL\n", ["a header and no rows"]),
        ("model,BLEU\nA,1\n", ["no column to check", "'BLEU'", "expected some of PPL, KL, -ELBO"]),
        ("PPL,KL\n1,2,3\n", ["line 2 has 3 cells, the header 2"]),
        ("-ELBO,NLL\n1,2\n", ["'-ELBO' and 'NLL' are both read as negative elbo", "rename"]),
        ('PPL,KL\n"1,2\n', ["line 2 cannot be read"]),
    ],
)
def test_files_that_are_no_table(text, parts):
    with pytest.raises(IsthmusError) as error:
        read_table(text, "table.csv")
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_only_what_the_columns_allow_is_said_to_be_checked():
    assert checked(read_table("KL\n1\n", "x")) == ["KL ≥ 0"]
    five = checked(read_table(T5, "x"))
    assert five[-1] == "the same tokens per sentence in all rows of a dataset"
    assert "IW-NLL ≤ −ELBO" not in five


def test_no_torch_is_needed():
    code = (
        "import sys, isthmus.commands.tables, isthmus.published.identities;"
        "import isthmus.published.figures;"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
