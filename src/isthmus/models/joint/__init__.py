"""One latent for several kinds of data: each is a door to it, and is drawn from it."""
