"""What `netllm test` and reports of the same kind need."""
