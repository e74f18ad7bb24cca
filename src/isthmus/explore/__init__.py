"""Walks in a latent space, transfer, refitted priors, added words."""
