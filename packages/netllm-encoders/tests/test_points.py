import importlib.metadata
import json

import pytest
import torch
from netllm_encoders import Points

SERIES = {"sizes_bytes": {"scale": 100.0, "log": True}, "gaps_ms": {"log": True}}
FIELDS = {"server_port": {"kind": "scalar", "log": True}}


def make_encoder(**settings) -> Points:
    torch.manual_seed(0)
    own = {"width": 32, "length": 7, "series": SERIES, "fields": FIELDS, "group": 3, "hidden": 8}
    return Points(**own | settings)


def make_observation(batch: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "sizes_bytes": torch.randint(-1500, 1500, (batch, 7), generator=generator),
        "gaps_ms": torch.rand(batch, 7, generator=generator) * 30,
        "server_port": torch.tensor([443, 53, 22, 80, 8080])[:batch],
    }


def test_points_make_tokens_in_groups_and_fields_come_last():
    encoder, observation = make_encoder(), make_observation()
    tokens = encoder.observe(observation)
    assert tokens.shape == (5, encoder.tokens, 32)
    assert encoder.tokens == 3 + 1
    torch.testing.assert_close(tokens[:, -1:], encoder.fields.observe(observation))
    assert make_encoder(group=1).tokens == 7 + 1


def test_a_token_sees_the_points_around_its_own_and_no_others():
    encoder, observation = make_encoder(), make_observation()
    before = encoder.observe(observation)
    observation["gaps_ms"][:, 0] += 5  # two convolutions reach three points further
    changed = (encoder.observe(observation) != before).any(2)
    assert changed.tolist() == [[True, True, False, False]] * 5


def test_a_point_of_zeros_is_told_from_one_whose_numbers_are_small():
    encoder, observation = make_encoder(), make_observation()
    empty = observation | {"sizes_bytes": torch.zeros(5, 7), "gaps_ms": torch.zeros(5, 7)}
    small = empty | {"gaps_ms": torch.full((5, 7), 1e-6)}
    difference = encoder.observe(small)[:, :3] - encoder.observe(empty)[:, :3]
    assert difference.abs().amax() > 0.01


def test_each_observation_is_encoded_alone():
    encoder, observation = make_encoder(), make_observation()
    alone = encoder.observe({name: value[2:3] for name, value in observation.items()})
    torch.testing.assert_close(encoder.observe(observation)[2:3], alone)


def test_config_rebuilds_the_encoder_that_its_entry_point_names():
    encoder = make_encoder()
    (entry,) = importlib.metadata.entry_points(group="netllm.encoders", name="points")
    twin = entry.load()(**json.loads(json.dumps(encoder.config())))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin.observe(make_observation()), encoder.observe(make_observation()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"series": {}}, "`series` must name at least one field"),
        ({"fields": {}}, "`fields` must name at least one field"),
        ({"group": 0}, "`length` and `group` must be at least 1, got 7 and 0"),
        ({"series": {"gaps_ms": {"scale": 0.0}}}, "field 'gaps_ms': `scale` must"),
        ({"series": {"gaps_ms": {"kernel": 3}}}, "field 'gaps_ms': unknown setting 'kernel'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_encoder(**settings)


def test_an_observation_that_does_not_fit_is_refused_by_name():
    encoder, observation = make_encoder(), make_observation()
    with pytest.raises(ValueError, match=r"field 'gaps_ms' must have shape \(batch, 7\), got"):
        encoder.observe(observation | {"gaps_ms": torch.ones(5, 6)})
    del observation["sizes_bytes"]
    with pytest.raises(ValueError, match="must hold the field 'sizes_bytes', got gaps_ms"):
        encoder.observe(observation)
