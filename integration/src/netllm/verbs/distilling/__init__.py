"""What `netllm distil` alone needs."""
