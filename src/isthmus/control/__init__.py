"""Steering a language model: control codes, logit rules, sampling. Pure functions, no models."""
