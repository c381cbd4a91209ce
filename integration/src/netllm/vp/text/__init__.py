"""Viewport prediction with answers as text: the comparators of the paper's motivation."""
