"""The names of the package, which are looked up on first use."""

import netllm_adapt


def test_completion_shows_every_name_and_each_is_there() -> None:
    assert {*dir(netllm_adapt)} == {*netllm_adapt.__all__}
    assert all(getattr(netllm_adapt, name).__name__ == name for name in dir(netllm_adapt))
