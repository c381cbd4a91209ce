"""Sweeps: what is searched, and the trials that several workers share."""
