"""What a player of 360° video tells before it asks where the viewer will look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netllm.task.observation_fields import LARGEST, ObservationField

if TYPE_CHECKING:
    from netllm_sims.vp import Setting

ANGLES = 3
"""Roll, pitch and yaw."""


def observation_fields(setting: Setting) -> dict[str, ObservationField]:
    """The fields of `netllm_sims.vp`: memory and crowd where the setting shows them."""

    def angles(text: str, *shape: int) -> ObservationField:
        return ObservationField(text, (*shape, ANGLES), least=-LARGEST, most=LARGEST)

    history, memory, crowd = setting.history, setting.memory, setting.crowd
    fields = {
        "viewport_deg": angles(
            "The viewer's last viewports as roll, pitch and yaw, newest last.", history
        ),
        "video": ObservationField("Name of the video.", kind=str, default=""),
        "time_s": ObservationField(
            "Seconds into the video of the last viewport.", least=0, most=LARGEST, default=0.0
        ),
    }
    if memory:
        fields["memory_deg"] = angles("The viewer's points before these; 0 if unknown.", memory)
        fields["memory_known"] = ObservationField("Which are known.", (memory,), bool)
    if crowd:
        points = history + setting.horizon
        fields["crowd_deg"] = angles(
            "How others moved in the same video at the same times and after; 0 if unknown.",
            crowd,
            points,
        )
        fields["crowd_known"] = ObservationField("Which of them are known.", (crowd,), bool)
    return fields
