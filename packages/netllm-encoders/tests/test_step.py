import importlib.metadata
import json

import pytest
import torch
from netllm_encoders import Step

FIELDS = {
    "throughput_mbps": {"kind": "series", "length": 6, "log": True},
    "sizes_mb": {"kind": "series", "length": 6, "channels": 4, "take": 1},
    "buffer_s": {"kind": "scalar", "scale": 10.0},
    "level": {"kind": "scalar", "scale": 3.0},
}


def make_step(**settings) -> Step:
    torch.manual_seed(0)
    return Step(**{"width": 32, "fields": FIELDS, "actions": 4, "hidden": 8} | settings)


def make_observation(batch: int = 2, step: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "buffer_s": torch.rand(batch, step, generator=generator, dtype=torch.float64) * 60,
        "level": torch.randint(4, (batch, step), generator=generator),
        "sizes_mb": torch.rand(batch, step, 6, 4, generator=generator),
        "throughput_mbps": torch.rand(batch, step, 6, generator=generator) * 5,
        "stall_s": torch.rand(batch, step, generator=generator),
    }


def test_an_observation_becomes_the_return_token_and_one_token_per_declared_field():
    step = make_step()
    tokens = step.observe(make_observation(), torch.ones(2, 3))
    assert step.tokens == 5
    assert tokens.shape == (2, 3, 5, 32)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(2, 3, 5), rtol=1e-2, atol=0)


@pytest.mark.parametrize(("token", "field"), list(enumerate(["return", *FIELDS])))
def test_a_field_changes_its_own_token_only(token, field):
    step, observation, to_go = make_step(), make_observation(), torch.ones(2, 3)
    before = step.observe(observation, to_go)
    if field == "return":
        to_go = to_go + 1
    else:
        observation[field] = observation[field] + 1
    changed = (step.observe(observation, to_go) != before).any(-1)
    assert changed[:, :, token].all()
    assert changed.sum() == 6


def test_each_step_is_encoded_alone():
    step, observation, to_go = make_step(), make_observation(), torch.rand(2, 3)
    alone = step.observe(
        {name: value[1:, 2:] for name, value in observation.items()}, to_go[1:, 2:]
    )
    torch.testing.assert_close(step.observe(observation, to_go)[1, 2], alone[0, 0])


def test_the_return_is_divided_by_its_scale():
    step, scaled = make_step(), make_step(return_scale=50.0)
    scaled.load_state_dict(step.state_dict())
    observation = make_observation()
    torch.testing.assert_close(
        scaled.observe(observation, torch.full((2, 3), 50.0)),
        step.observe(observation, torch.ones(2, 3)),
    )


def test_equal_actions_have_equal_tokens_and_others_do_not():
    tokens = make_step().act(torch.tensor([[0, 3, 0]]))
    assert tokens.shape == (1, 3, 1, 32)
    assert torch.equal(tokens[0, 0], tokens[0, 2])
    assert not torch.allclose(tokens[0, 0], tokens[0, 1], atol=0.1)


def test_every_parameter_learns():
    step = make_step()
    tokens = [step.observe(make_observation(), torch.ones(2, 3)), step.act(torch.ones(2, 3).long())]
    torch.cat(tokens, dim=2).square().mul(torch.rand(32)).sum().backward()
    assert [name for name, weight in step.named_parameters() if not weight.grad.any()] == []


def test_config_rebuilds_the_encoder():
    step = make_step(gain=0.1, return_scale=2.0)
    twin = Step(**json.loads(json.dumps(step.config())))
    assert list(twin.fields) == list(FIELDS)
    twin.load_state_dict(step.state_dict())
    arguments = make_observation(), torch.ones(2, 3)
    assert torch.equal(step.observe(*arguments), twin.observe(*arguments))


def test_the_encoder_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.encoders", name="step")
    assert entry.load() is Step


def test_a_missing_field_is_named():
    observation = make_observation()
    del observation["buffer_s"]
    with pytest.raises(ValueError, match="must hold the field 'buffer_s', got level, sizes_mb,"):
        make_step().observe(observation, torch.ones(2, 3))


def test_a_field_of_another_shape_is_named():
    observation = make_observation() | {"throughput_mbps": torch.zeros(2, 3, 8)}
    with pytest.raises(
        ValueError,
        match=r"'throughput_mbps' must have shape \(batch, step, 6\), got \(2, 3, 8\)\. Are",
    ):
        make_step().observe(observation, torch.ones(2, 3))


def test_a_field_of_other_steps_is_named():
    observation = make_observation() | {"buffer_s": torch.zeros(2, 4)}
    with pytest.raises(ValueError, match=r"'buffer_s' .* observation, \(2, 3\), got \(2, 4\)"):
        make_step().observe(observation, torch.ones(2, 3))


def test_an_action_outside_the_ladder_is_refused():
    with pytest.raises(IndexError, match=r"between 0 and 3, got 0 to 4\. Was the encoder built"):
        make_step().act(torch.tensor([[0, 4]]))
