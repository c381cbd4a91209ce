"""The paper's experiments: which they are, what was found, and the report of it."""
