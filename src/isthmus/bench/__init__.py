"""Benchmarks: all text systems on one corpus, and picture losses in every combination."""
