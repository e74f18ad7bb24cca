"""Corpora, tokens and batches."""
