"""What a prediction is compared with to explain it: heads that do not move."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def standing_still(fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every head stands still where it is now.

    Args:
        fields: `viewport_deg` (batch, history, 3), in degrees, and perhaps `memory_deg` (batch,
            memory, 3) and `crowd_deg` (batch, viewer, history + horizon, 3).

    Returns:
        The same angles, less than half a turn from the neutral ones; and these.
    """
    now = fields["viewport_deg"].shape[-2] - 1
    here = fields["viewport_deg"][:, now:]
    stands = {"viewport_deg": here, "memory_deg": here}
    if "crowd_deg" in fields:
        stands["crowd_deg"] = fields["crowd_deg"][..., now : now + 1, :]
    own = {name: angles for name, angles in stands.items() if name in fields}
    neutral = {name: angles.expand_as(fields[name]) for name, angles in own.items()}
    turned = {name: (fields[name] - still + 180) % 360 - 180 for name, still in neutral.items()}
    return {name: neutral[name] + turn for name, turn in turned.items()}, neutral
