"""Adapted models in real players, over a connection whose speed follows a trace."""
