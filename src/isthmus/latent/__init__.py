"""The mathematics of the latent: posterior, prior, objective, schedule. Needs torch only."""
