"""Decisions one step at a time, with the keys and values of the last window remembered."""
