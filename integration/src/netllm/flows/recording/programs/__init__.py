"""The programs: a module for each class of flows; see `known_programs`."""
