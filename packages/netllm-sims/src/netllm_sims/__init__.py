"""Networking environments, traces, metrics and settings: adaptive bitrate streaming.

Importing this package makes `netllm/ABR-v0` known to gymnasium.
"""

import gymnasium

gymnasium.register(
    id="netllm/ABR-v0",
    entry_point="netllm_sims.abr:Env",
    vector_entry_point="netllm_sims.abr:VectorEnv",
)
