"""Weights from elsewhere as plain transformers folders."""
