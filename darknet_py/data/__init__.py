"""Images with their truths: label files, data sets, augmentation, mini-batches for training (Darknet: data.c)."""
