"""Lean passes of Llama-type backbones on CPU: to decide and to learn."""
