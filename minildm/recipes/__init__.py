"""Experiments as code, from data to model. Begin with `stages`."""
