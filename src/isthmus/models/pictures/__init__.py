"""A VAE of pictures: likelihoods over what a pixel can be, networks, the model."""
