"""Limits of what a flow may hold."""

MOST_PACKETS = 1_000
"""First packets of a flow that can be kept."""
LARGEST_SIZE_BYTES = 65_535.0
"""Largest packet of IP."""
LARGEST_GAP_MS = 1e9
"""Largest pause between two packets: 11 days."""
NONE = -1
"""Number of the answer that a flow belongs to none of the classes."""
