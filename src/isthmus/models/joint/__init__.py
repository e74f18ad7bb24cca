"""One latent for several modalities: q reads any of them, and each is decoded from z."""
