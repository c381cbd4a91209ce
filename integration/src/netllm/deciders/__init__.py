"""Who decides: policies and checkpoints by name, and a model behind its student."""
