"""What a player tells before it chooses the next chunk's bitrate."""

from netllm.task.observation_fields import LARGEST, REWARD, ObservationField

HISTORY = 6
"""Past and coming chunks that are told."""


def observation_fields(levels: int, *, live: bool = False) -> dict[str, ObservationField]:
    """The fields of `netllm_sims.abr.Simulator`, for a ladder of so many levels."""

    def number(text: str, *shape: int) -> ObservationField:
        return ObservationField(text, shape, least=0, most=LARGEST)

    near_the_edge = {
        "live_latency_s": number("How far playback is behind the live edge."),
        "speed": number("Mean speed of playback since the chunk before; 1 is as recorded."),
    }
    return {
        "throughput_mbps": number(
            "Measured throughput of the last chunks, newest last; 0 before the start.", HISTORY
        ),
        "delay_s": number("Download time of the same chunks; 0 before the start.", HISTORY),
        "sizes_mb": number(
            "Sizes of the next chunks in 1e6 bytes by level; row 0 is the one to choose, 0 beyond "
            "the end of the video.",
            HISTORY,
            levels,
        ),
        "rate_kbps": number("Bitrate of the last chunk, as its label says."),
        "level": ObservationField(
            "Level of the last chunk in the ladder.", kind=int, least=0, most=levels - 1
        ),
        "buffer_s": number("Playback time in the buffer."),
        "stall_s": number("Time without playback that the last chunk caused."),
        "chunks_left": number("Chunks still to be decided, this one included."),
        **(near_the_edge if live else {}),
        "reward": REWARD,
    }
