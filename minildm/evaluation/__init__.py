"""How good are the samples? Distances of sets, a classifier's features, scores with floors."""
