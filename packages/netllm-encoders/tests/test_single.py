import importlib.metadata
import json

import pytest
import torch
from netllm_encoders import Fields, Step

FIELDS = {
    "throughput_mbps": {"kind": "series", "length": 6, "log": True},
    "sizes_mb": {"kind": "series", "length": 6, "channels": 4, "take": 1},
    "buffer_s": {"kind": "scalar", "scale": 10.0},
}


def make_encoder(**settings) -> Fields:
    torch.manual_seed(0)
    return Fields(**{"width": 32, "fields": FIELDS, "hidden": 8} | settings)


def make_observation(batch: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "buffer_s": torch.rand(batch, generator=generator, dtype=torch.float64) * 60,
        "sizes_mb": torch.rand(batch, 6, 4, generator=generator),
        "throughput_mbps": torch.rand(batch, 6, generator=generator) * 5,
        "stall_s": torch.rand(batch, generator=generator),
    }


def test_its_tokens_are_those_of_a_step_with_the_same_weights():
    encoder, observation = make_encoder(), make_observation()
    step = Step(width=32, fields=FIELDS, hidden=8, actions=1)
    step.field_encoders.load_state_dict(encoder.field_encoders.state_dict())
    for name, value in encoder.projection.named_parameters():
        getattr(step.projection, name).data[1:] = value.data
    rows = {name: value[:, None] for name, value in observation.items()}
    expected = step.observe(rows, torch.zeros(5, 1))[:, 0, 1:]
    tokens = encoder.observe(observation)
    assert tokens.shape == (5, encoder.tokens, 32)
    torch.testing.assert_close(tokens, expected)


def test_a_number_may_come_as_a_column():
    encoder, observation = make_encoder(), make_observation()
    column = observation | {"buffer_s": observation["buffer_s"][:, None]}
    assert torch.equal(encoder.observe(column), encoder.observe(observation))


def test_each_observation_is_encoded_alone():
    encoder, observation = make_encoder(), make_observation()
    alone = encoder.observe({name: value[2:3] for name, value in observation.items()})
    torch.testing.assert_close(encoder.observe(observation)[2:3], alone)


def test_config_rebuilds_the_encoder_that_its_entry_point_names():
    encoder = make_encoder()
    (entry,) = importlib.metadata.entry_points(group="netllm.encoders", name="fields")
    twin = entry.load()(**json.loads(json.dumps(encoder.config())))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.observe(make_observation()), encoder.observe(make_observation()))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"buffer_s": torch.zeros(4)},
            r"'buffer_s' must have as many rows .* \(5, 1\), got \(4, 1",
        ),
        ({"buffer_s": torch.zeros(5, 6)}, r"'buffer_s' must be one number per step"),
        ({"throughput_mbps": torch.zeros(5, 7)}, r"'throughput_mbps' must have shape"),
    ],
)
def test_a_field_of_another_shape_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        make_encoder().observe(make_observation() | change)


@pytest.mark.parametrize("missing", FIELDS)
def test_a_missing_field_is_named(missing):
    observation = make_observation()
    del observation[missing]
    with pytest.raises(ValueError, match=f"must hold the field '{missing}'"):
        make_encoder().observe(observation)


def test_no_fields_make_no_tokens():
    with pytest.raises(ValueError, match="`fields` must name at least one field"):
        make_encoder(fields={})
