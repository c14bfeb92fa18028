"""`lsemvae benchmark`: what a bundle costs, and how each figure is known."""
