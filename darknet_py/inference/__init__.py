"""What is derived from a network to run it fast: its deployed form, and the runner."""
