"""The simulator compiled by numba: everything that happens between two decisions."""
