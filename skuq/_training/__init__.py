"""Training networks: one at a time, several as a stack, and resuming from checkpoints."""
