"""How good are the samples? Distances of sets, the classifier that sees, scores beside their floors."""
