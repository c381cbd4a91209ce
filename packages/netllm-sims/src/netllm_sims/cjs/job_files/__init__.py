"""Profiles of jobs from files: Spark's logs, Alibaba's traces, Decima's arrays."""
