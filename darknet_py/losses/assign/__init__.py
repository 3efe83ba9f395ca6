"""Assigners: which ground truth trains which boxes; one file each, pure functions of predictions, priors and truths."""
