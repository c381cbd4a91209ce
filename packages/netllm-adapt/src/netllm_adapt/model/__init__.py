"""Adapted models: an encoder, a frozen backbone with low-rank matrices, a head."""
