"""Flows of real programs, recorded on the loopback of a network namespace of their own."""
