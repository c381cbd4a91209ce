"""What `tools/mutations.py` mutates, how, and what must come of it."""
