"""Tokens of a viewer's past and of other viewers."""

import pytest
import torch
from netllm_encoders import Viewport
from netllm_encoders.side_tokens import Crowd, Memory

CROWD = {"viewers": 3, "horizon": 4}


def make_encoder(**settings) -> Viewport:
    torch.manual_seed(0)
    return Viewport(
        **{"width": 32, "history": 6, "hidden": 16, "memory": 30, "crowd": CROWD} | settings
    )


def make_observation(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def walk(*shape: int) -> torch.Tensor:
        return 5 * torch.randn(*shape, 3, generator=generator).cumsum(-2)

    return {
        "viewport_deg": walk(batch, 6),
        "memory_deg": walk(batch, 30),
        "memory_known": torch.ones(batch, 30, dtype=torch.bool),
        "crowd_deg": walk(batch, 3, 10),
        "crowd_known": torch.ones(batch, 3, dtype=torch.bool),
    }


def test_past_comes_first_and_viewers_come_before_the_query():
    encoder, observation = make_encoder(), make_observation()
    before = encoder.observe(observation)
    assert encoder.tokens == before.shape[1] == 2 + 6 + 3 + 1
    past = encoder.observe(observation | {"memory_deg": -observation["memory_deg"]})
    assert (past != before).any(-1).tolist() == [[True] * 2 + [False] * 10] * 2
    others = encoder.observe(observation | {"crowd_deg": -observation["crowd_deg"]})
    assert (others != before).any(-1).tolist() == [[False] * 8 + [True] * 3 + [False]] * 2


def test_an_encoder_that_is_told_of_neither_has_the_weights_of_before():
    torch.manual_seed(0)
    plain = Viewport(width=32, history=6, hidden=16)
    assert not any("memory" in name or "crowd" in name for name in plain.state_dict())
    assert plain.tokens == 7


def test_what_is_not_known_changes_nothing():
    encoder, observation = make_encoder(), make_observation()
    observation["memory_known"][:, :12] = False
    observation["crowd_known"][:, 1] = False
    before = encoder.observe(observation)
    observation["memory_deg"][:, :12] = 77.0
    observation["crowd_deg"][:, 1] = 77.0
    torch.testing.assert_close(encoder.observe(observation), before)


def test_viewers_are_told_apart_by_what_they_do_alone():
    encoder, observation = make_encoder(), make_observation()
    order = [2, 0, 1]
    swapped = observation | {"crowd_deg": observation["crowd_deg"][:, order]}
    torch.testing.assert_close(
        encoder.observe(swapped)[:, 8:11], encoder.observe(observation)[:, 8:11][:, order]
    )


def test_full_turns_change_nothing():
    encoder, observation = make_encoder(), make_observation()
    turned = {name: values.clone() for name, values in observation.items()}
    turned["memory_deg"][:, 4:, 2] += 360
    turned["crowd_deg"][:, 0, 3:, 2] -= 360
    torch.testing.assert_close(
        encoder.observe(turned), encoder.observe(observation), atol=1e-4, rtol=0
    )


def test_the_oldest_stretch_of_the_past_may_be_short():
    torch.manual_seed(0)
    memory = Memory(points=7, hidden=8, width=16, gain=1.0, stretch=5)
    past = 5 * torch.randn(1, 7, 3).cumsum(1)
    known = torch.ones(1, 7, dtype=torch.bool)
    before = memory(past, known, past[:, -1])
    assert before.shape == (1, 2, 16)
    older = past.clone()
    older[:, 0] += 9
    changed = (memory(older, known, past[:, -1]) != before).any(-1)
    assert changed.tolist() == [[True, False]]


def test_a_viewer_is_compared_over_no_more_points_than_are_known():
    torch.manual_seed(0)
    crowd = Crowd(horizon=4, hidden=8, width=16, gain=1.0)
    tokens = crowd(torch.zeros(1, 2, 3 + 4, 3), torch.ones(1, 2).bool(), torch.zeros(1, 3, 3))
    assert tokens.shape == (1, 2, 16)
    assert tokens.isfinite().all()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("memory_deg", torch.zeros(2, 29, 3), r"'memory_deg' must have shape \(2, 30, 3\)"),
        ("memory_known", torch.zeros(2, 31), r"'memory_known' must have shape \(2, 30\)"),
        ("crowd_deg", torch.zeros(2, 3, 9, 3), r"'crowd_deg' must have shape \(2, 3, 10, 3\)"),
        ("crowd_known", torch.zeros(2, 4), r"'crowd_known' must have shape \(2, 3\)"),
    ],
)
def test_a_field_of_another_shape_is_refused(field, value, said):
    with pytest.raises(ValueError, match=said):
        make_encoder().observe(make_observation() | {field: value})


@pytest.mark.parametrize("crowd", [{}, {"viewers": 3}, {"viewers": 0, "horizon": 4}])
def test_a_crowd_must_say_how_many_and_how_far(crowd):
    with pytest.raises(ValueError, match="`crowd` must hold `viewers` and `horizon`"):
        make_encoder(crowd=crowd)


def test_a_missing_field_is_named():
    observation = make_observation()
    del observation["crowd_known"]
    with pytest.raises(ValueError, match="'crowd_known'"):
        make_encoder().observe(observation)


def test_settings_rebuild_the_encoder():
    encoder = make_encoder()
    again = Viewport(**encoder.config())
    again.load_state_dict(encoder.state_dict())
    observation = make_observation()
    assert torch.equal(again.observe(observation), encoder.observe(observation))
