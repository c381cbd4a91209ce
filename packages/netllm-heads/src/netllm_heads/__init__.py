"""Networking heads: hidden states to valid answers."""
