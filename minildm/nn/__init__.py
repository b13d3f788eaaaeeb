"""The networks, tensors in and tensors out. Begin with `layers`."""
