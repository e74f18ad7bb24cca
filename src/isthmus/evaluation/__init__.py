"""Measuring a model: likelihood, use of the latent, text."""
