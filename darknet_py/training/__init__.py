"""Training as the cfg says: the training step, optimizer, schedule, checkpoints, processes, the training loop."""
