"""Checks of published tables, and published figures to compare with."""
