"""One loop that trains every model, and what surrounds it. Begin with `loop`."""
