"""Networking environments, traces, metrics and settings: adaptive bitrate streaming."""


def register() -> None:
    """Make `netllm/ABR-v0` known to gymnasium, which calls this through its entry-point group `gymnasium.envs`."""
    from gymnasium.envs.registration import register as register_env
    from gymnasium.envs.registration import registry

    if "netllm/ABR-v0" not in registry:
        register_env(
            id="netllm/ABR-v0",
            entry_point="netllm_sims.abr:Env",
            vector_entry_point="netllm_sims.abr:VectorEnv",
        )
