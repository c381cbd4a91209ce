"""Which data there is: sources and their digests, downloads, imports, exports."""
