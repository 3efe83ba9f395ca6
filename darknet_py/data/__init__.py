"""Pictures with their truths: label files, data sets, augmentation, batches (Darknet: data.c)."""
