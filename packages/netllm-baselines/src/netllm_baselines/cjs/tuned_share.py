"""Shares by weight, stages by score, and no executor sent where it does not pay."""

from typing import TYPE_CHECKING

from netllm_sims.cjs import Heuristic

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting

# Order: work, critical path, source, frontier, unstarted, supply, path from the stage, -exponent,
# multiplier, hard cap, demand share, (unused twice), path in weight, running, moving benefit,
# local benefit, job benefit, duration in benefit.
FIFTY = (
    1.002, 0.613, 1.768, 0.942, -0.050, -0.562, 0.391, -0.448, 2.087, 39.0,
    0.958, 1.0, 0.0, 0.056, 0.373, 5.88, 1.63, 2.21, 0.204,
)  # fmt: skip
THIRTY = (
    0.9971, 0.4847, 1.6693, 1.3274, -0.0022, -0.5901, 0.3371, -0.3737, 2.3468, 29.86,
    0.7401, 1.0, 0.4578, 0.1010, 1.1922, 4.5213, 1.3019, 4.2550, 0.4302,
)  # fmt: skip


class TunedShare(Heuristic):
    """Short jobs first within caps by weight, and executors stay where moving does not pay.

    Args:
        setting: Up to 40 executors take the numbers tuned for 30, more those for 50.

    Source: ours; the numbers by cross-entropy on job sequences 10 to 14.
    """

    def __init__(self, setting: "Setting") -> None:
        numbers = THIRTY if setting.num_executors <= 40 else FIFTY
        super().__init__("netllm_baselines.cjs._compiled_rules:tuned_share", numbers)
