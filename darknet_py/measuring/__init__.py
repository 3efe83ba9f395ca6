"""How good a network is: its detections in a data set, measured against the ground truth."""
