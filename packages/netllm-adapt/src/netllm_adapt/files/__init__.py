"""Files on disk: bounded reading, writing whole or not at all, locks and digests."""
