"""What a sender tells before it chooses the rate of the next monitoring interval."""

from netllm.task.observation_fields import LARGEST, REWARD, ObservationField

HISTORY = 8
"""Past monitoring intervals that are told."""


def observation_fields() -> dict[str, ObservationField]:
    """The fields of `netllm_sims.cc.Simulator`."""

    def number(text: str, *shape: int, most: float = LARGEST) -> ObservationField:
        return ObservationField(text, shape, least=0, most=most)

    return {
        "sent_mbps": number(
            "What was sent in the last intervals, newest last; 0 before the start.", HISTORY
        ),
        "throughput_mbps": number("What was acknowledged in the same intervals.", HISTORY),
        "rtt_ms": number("Mean round-trip time of what was acknowledged.", HISTORY),
        "inflation": number("The same over the shortest one so far, less 1.", HISTORY),
        "loss": number("Share of losses among what was acknowledged or lost.", HISTORY, most=1),
        "rtt_gradient": ObservationField(
            "Change of the round-trip time per time.", (HISTORY,), least=-1, most=1
        ),
        "send_ratio": number("Sent over acknowledged, at most 10.", HISTORY, most=10),
        "throughput_ratio": number(
            "Throughput over the present rate, at most 10.", HISTORY, most=10
        ),
        "rate_mbps": number("Sending rate, which the answer multiplies."),
        "inflight_packets": number("Packets of 1,500 bytes of which nothing is known yet."),
        "min_rtt_ms": number("Shortest round trip so far."),
        "interval_ms": number("Length of an interval: half a round trip without a queue."),
        "reward": REWARD,
    }
