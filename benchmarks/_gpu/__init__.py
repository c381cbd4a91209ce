"""The parts of `gpu.py`, and what their figures say."""
