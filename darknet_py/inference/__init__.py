"""Between a network and the machine: what is derived from a network to run fast."""
