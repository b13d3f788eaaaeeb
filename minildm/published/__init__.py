"""Weights that others published, in our classes: Stable Diffusion, CLIP, DiT."""
