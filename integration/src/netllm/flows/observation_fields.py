"""What a monitor tells of a flow before it asks for its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netllm_sims.flows.limits import LARGEST_GAP_MS, LARGEST_SIZE_BYTES

from netllm.task.observation_fields import LARGEST, ObservationField

if TYPE_CHECKING:
    from netllm_sims.flows import Setting


def observation_fields(setting: Setting) -> dict[str, ObservationField]:
    """The fields of `netllm_sims.flows`: statistics where the setting has some."""

    def number(text: str, *shape: int, least: float, most: float) -> ObservationField:
        return ObservationField(text, shape, least=least, most=most)

    packets = setting.packets
    largest = LARGEST_SIZE_BYTES
    fields = {
        "sizes_bytes": number(
            "Size of each of the first packets, negative from the server; 0 where none is left.",
            packets,
            least=-largest,
            most=largest,
        ),
        "gaps_ms": number(
            "Time since the packet before; 0 of the first.", packets, least=0, most=LARGEST_GAP_MS
        ),
        "protocol": ObservationField("Protocol number of IP.", kind=int, least=0, most=255),
        "server_port": ObservationField("Port of the server.", kind=int, least=0, most=65_535),
    }
    if names := setting.statistic_names:
        text = f"In this order: {', '.join(names)}."
        fields["statistics"] = number(text, len(names), least=-LARGEST, most=LARGEST)
    return fields
