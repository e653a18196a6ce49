"""DiffMAE for video: diffusion-masked autoencoding, its loaders and its loops."""
