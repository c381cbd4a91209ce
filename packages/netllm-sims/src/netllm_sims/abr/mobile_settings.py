"""What the settings of mobile networks, `3g` and `4g-5g`, are made of."""

from typing import Any

from netllm_sims.abr.qoe import REBUFFERING

LINKS = {
    "3g": ("norway-3g",),
    "4g-5g": ("ghent-4g", "minneapolis-4g", "cork-5g", "minneapolis-5g"),
}
"""Whose statistics the generated traces have, by setting; a trace of each in turn."""
LADDER_4G_5G_KBPS = (1000.0, 2500.0, 5000.0, 8000.0, 16000.0, 40000.0)
"""The ladder of `4g-5g` in kbit/s.

Source: ABRBench-4G+ (Luo et al., SABR, arXiv:2509.10486, section IV), which also has the ladder of
`3g`, Pensieve's, for its class of up to 3G.
"""
FIELDS: dict[str, dict[str, Any]] = {"4g-5g": {"rates_kbps": LADDER_4G_5G_KBPS}}
"""Fields of a setting that are other than those of `default`."""


def rebuffering(name: str, quality: str) -> float:
    """QoE penalty per second without playback of a setting; `linear`'s if there is no such quality.

    Pensieve (Mao et al., SIGCOMM 2017, table 1) takes the quality of the highest rate: 4.3 Mbit/s,
    or log(4.3 / 0.3) = 2.66. With the ladder of `4g-5g` these are 40, as in SABR, and
    log(40 / 1) = 3.69.

    Args:
        name: Of the setting.
        quality: What a chunk is worth, one of `QUALITIES`.
    """
    if name == "4g-5g" and quality in ("linear", "log"):
        return {"linear": 40.0, "log": 3.69}[quality]
    return REBUFFERING.get(quality, REBUFFERING["linear"])
