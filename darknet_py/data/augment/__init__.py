"""Augmentation: what is drawn at random for an image, and what it does to pixels and boxes; one file a kind, `lists`
has the recipes."""
