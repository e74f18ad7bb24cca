"""The studio: a latent space in the browser, one page and the server behind it."""
