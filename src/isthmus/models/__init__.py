"""Text models with a latent."""
