"""What the commands do once their arguments are read: a `run` each, beside a module for each command."""
