"""How good a network is: what it finds in a data set, measured against the ground truth."""
