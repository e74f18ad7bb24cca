"""The block of published figures below the table."""

from isthmus.bench.table import published_block


def row(dataset, system):
    [line] = [x for x in published_block(dataset).splitlines() if x.startswith(f"| {system} |")]
    return [part.strip() for part in line.strip("|").split("|")]


def test_figures_are_as_printed_and_converted_if_possible():
    optimus = row("yahoo", "Optimus λ=0.50")
    assert optimus[2:5] == ["23.11", "subword", "42.1"]  # exp(301.21 / 80.5)
    assert "ceiling" in optimus[-1]
    assert "not comparable" in row("ptb", "Optimus λ=0.50")[4]
    t5 = row("yahoo", "T5-VAE + denoising")
    assert t5[6] == "384.84"  # reconstruction + KL, not minus
    assert "sign" in t5[-1]


def test_a_corpus_without_published_figures_has_no_block():
    assert published_block("reviews") == ""
