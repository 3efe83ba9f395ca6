"""Training as the cfg says: schedule, optimizer, the step that Darknet takes, checkpoints, the loop."""
