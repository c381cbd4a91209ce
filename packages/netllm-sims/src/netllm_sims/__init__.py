"""Networking environments, traces, metrics and settings, a folder for each task.

`netllm_sims.abr` is adaptive bitrate streaming, `netllm_sims.vp` viewport prediction,
`netllm_sims.cjs` cluster job scheduling, `netllm_sims.cc` congestion control, `netllm_sims.flows`
flow classification. Importing this package makes `netllm/ABR-v0`, `netllm/VP-v0`, `netllm/CJS-v0`,
`netllm/CJSTable-v0` and `netllm/CC-v0` known to gymnasium;
`gymnasium.make("netllm_sims:netllm/ABR-v0")` imports it.
"""

import gymnasium

gymnasium.register(
    id="netllm/ABR-v0",
    entry_point="netllm_sims.abr:Env",
    vector_entry_point="netllm_sims.abr:VectorEnv",
)
gymnasium.register(id="netllm/VP-v0", entry_point="netllm_sims.vp:Env")
gymnasium.register(id="netllm/CJS-v0", entry_point="netllm_sims.cjs:Env")
gymnasium.register(id="netllm/CJSTable-v0", entry_point="netllm_sims.cjs:TableEnv")
gymnasium.register(id="netllm/CC-v0", entry_point="netllm_sims.cc:Env")
