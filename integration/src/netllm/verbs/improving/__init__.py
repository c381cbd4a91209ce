"""What `netllm improve` alone needs."""
