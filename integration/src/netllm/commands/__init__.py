"""The commands of the program, one module per theme; `netllm.cli` loads them when they are run."""
