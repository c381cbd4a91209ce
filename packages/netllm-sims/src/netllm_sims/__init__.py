"""Networking environments, traces, metrics and settings: streaming and viewports.

`netllm_sims.abr` is adaptive bitrate streaming, `netllm_sims.vp` viewport prediction.
Importing this package makes `netllm/ABR-v0` known to gymnasium.
"""

import gymnasium

gymnasium.register(
    id="netllm/ABR-v0",
    entry_point="netllm_sims.abr:Env",
    vector_entry_point="netllm_sims.abr:VectorEnv",
)
