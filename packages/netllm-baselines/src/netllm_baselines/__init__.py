"""Rivals for networking tasks: rules, planners and learned policies."""
