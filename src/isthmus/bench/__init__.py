"""The table of all text systems on one corpus: rows, running them, printing them."""
