"""Adapted models behind HTTP: sessions, micro-batches, deadlines with a fallback, and a client."""
