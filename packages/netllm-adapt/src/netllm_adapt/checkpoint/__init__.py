"""Checkpoints: a folder with configuration, weights, adapter and model card, here or on a hub."""
