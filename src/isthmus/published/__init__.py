"""Checks of published tables, and published figures beside ours."""
