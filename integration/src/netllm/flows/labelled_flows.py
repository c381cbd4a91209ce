"""What flow classification learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from netllm_adapt import Examples

if TYPE_CHECKING:
    from netllm_sims.flows import Setting


class LabelledFlows(Examples):
    """The flows of a setting's training part, with the numbers of their classes.

    Args:
        setting: names the classes.
    """

    def __init__(self, setting: Setting) -> None:
        flows = setting.of_part("train")
        self.classes = setting.classes
        self.statistic_names = flows.statistic_names
        labels = np.searchsorted(np.array(self.classes), flows.label)
        super().__init__(flows.observation(), labels)
