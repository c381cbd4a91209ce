import importlib.metadata
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_encoders import Viewport
from netllm_encoders.viewer_angles import point_features

GRID = {"rows": 4, "columns": 8, "channels": 5}


def make_encoder(**settings) -> Viewport:
    torch.manual_seed(0)
    return Viewport(**{"width": 32, "history": 10, "hidden": 16} | settings)


def make_observation(batch: int = 3, points: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    walk = torch.randn(batch, points, 3, generator=generator, dtype=torch.float64).cumsum(1) * 5
    image = torch.randn(batch, 4, 8, 5, generator=generator).half()
    return {"viewport_deg": walk, "image": image}


def test_a_point_is_told_by_its_offset_its_motion_and_its_angles():
    history = torch.tensor([[[0.0, -10.0, 170.0], [5.0, 0.0, -175.0], [0.0, 30.0, -150.0]]])
    features = point_features(history)[0]
    # By hand. Yaw: 170 - (-150) is 320, so -40; -175 - (-150) is -25; -175 - 170 is -345, so 15.
    offset = torch.tensor([[0, -40, -40], [5, -30, -25], [0, 0, 0]]) / 30
    motion = torch.tensor([[0, 0, 0], [5, 10, 15], [-5, 30, 25]]) / 10
    torch.testing.assert_close(features[:, :3], offset)
    torch.testing.assert_close(features[:, 3:6], motion)
    torch.testing.assert_close(features[2, 6:9], torch.tensor([0.0, 0.5, -0.5]))
    torch.testing.assert_close(features[2, 9:], torch.tensor([1.0, 0.75**0.5, -(0.75**0.5)]))


def test_a_history_becomes_a_token_per_point_and_a_query():
    encoder = make_encoder(gain=0.1)
    tokens = encoder.observe(make_observation())
    assert encoder.tokens == 11
    assert tokens.shape == (3, 11, 32)
    assert tokens.dtype == torch.float32
    spread = tokens[:, :-1].std(-1, correction=0)
    torch.testing.assert_close(spread, torch.full((3, 10), 0.1), rtol=2e-2, atol=0)
    assert 0.05 < tokens[:, -1].std() < 0.2


def test_the_query_is_the_last_token_and_knows_nothing_of_the_row():
    encoder = make_encoder(image=GRID)
    tokens = encoder.observe(make_observation())
    assert torch.equal(tokens[:, -1], encoder.query.expand(3, 32))
    assert not torch.allclose(tokens[0, -2], tokens[1, -2])


def test_the_image_is_the_token_before_the_query():
    encoder, observation = make_encoder(image=GRID), make_observation()
    before = encoder.observe(observation)
    changed = (encoder.observe(observation | {"image": -observation["image"]}) != before).any(-1)
    assert encoder.tokens == 12
    assert changed[:, -2].all()
    assert changed.sum() == 3


@given(st.integers(1, 60), st.booleans())
def test_no_history_makes_more_than_sixteen_tokens(history, image):
    encoder = make_encoder(history=history, hidden=4, image=GRID if image else None)
    tokens = encoder.observe(make_observation(points=history))
    assert tokens.shape == (3, encoder.tokens, 32)
    assert encoder.tokens <= 16
    assert history > 13 or encoder.tokens == history + image + 1


def test_of_a_long_history_neighbours_are_averaged_from_the_newest_on():
    encoder = make_encoder(history=27)  # groups of three: nine tokens
    assert encoder.tokens == 10
    features = torch.rand(2, 16, 27)
    expected = features.view(2, 16, 9, 3).mean(-1).permute(2, 0, 1)
    torch.testing.assert_close(encoder._pooled(features), expected)
    encoder = make_encoder(history=15)  # groups of two: the oldest point is alone
    features = torch.rand(2, 16, 15)
    pooled = encoder._pooled(features)
    torch.testing.assert_close(pooled[0], features[..., 0])
    torch.testing.assert_close(pooled[-1], features[..., -2:].mean(-1))


@pytest.mark.parametrize("axis", [0, 2])
def test_full_turns_change_nothing(axis):
    encoder, observation = make_encoder(image=GRID), make_observation()
    turned = observation["viewport_deg"].clone()
    turned[0, :, axis] += 360
    turned[1, 4:, axis] -= 360
    torch.testing.assert_close(
        encoder.observe(observation),
        encoder.observe(observation | {"viewport_deg": turned}),
        atol=1e-4,
        rtol=0,
    )


@given(st.floats(-360, 360), st.integers(0, 2**32 - 1))
def test_offsets_and_motions_do_not_tell_where_the_viewer_is(turn, seed):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(2, 10, 3, generator=generator, dtype=torch.float64)
    walk = 4 * steps.cumsum(1)
    turned = walk.clone()
    turned[..., 2] = torch.remainder(walk[..., 2] + turn + 180, 360) - 180  # it may cross ±180
    relative, same = point_features(walk)[..., :6], point_features(turned)[..., :6]
    torch.testing.assert_close(relative, same, atol=1e-9, rtol=0)


def test_only_the_last_points_are_used():
    encoder, observation = make_encoder(), make_observation(points=15)
    cut = {"viewport_deg": observation["viewport_deg"][:, -10:]}
    assert torch.equal(encoder.observe(observation), encoder.observe(cut))


def test_each_row_is_encoded_alone():
    encoder, observation = make_encoder(image=GRID), make_observation()
    alone = {name: value[1:2] for name, value in observation.items()}
    torch.testing.assert_close(encoder.observe(observation)[1:2], encoder.observe(alone))


def test_an_image_that_is_not_declared_is_not_used():
    encoder, observation = make_encoder(), make_observation()
    history = {"viewport_deg": observation["viewport_deg"]}
    assert torch.equal(encoder.observe(observation), encoder.observe(history))


def test_every_parameter_learns():
    encoder = make_encoder(image=GRID)
    encoder.observe(make_observation()).square().mul(torch.rand(32)).sum().backward()
    assert [name for name, weight in encoder.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("image", [None, GRID | {"reduced": 3}])
def test_config_rebuilds_the_encoder(image):
    encoder = make_encoder(image=image, gain=0.5)
    twin = Viewport(**json.loads(json.dumps(encoder.config())))
    assert twin.config() == encoder.config()
    twin.load_state_dict(encoder.state_dict())
    observation = make_observation()
    assert torch.equal(encoder.observe(observation), twin.observe(observation))


def test_the_encoder_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.encoders", name="viewport")
    assert entry.load() is Viewport


@pytest.mark.parametrize("field", ["viewport_deg", "image"])
def test_a_missing_field_is_named(field):
    observation = make_observation()
    del observation[field]
    with pytest.raises(ValueError, match=f"must hold the field '{field}', got .* frames"):
        make_encoder(image=GRID).observe(observation)


@pytest.mark.parametrize("shape", [(10, 3), (2, 10, 4), (2, 3, 10, 3)])
def test_a_history_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"'viewport_deg' must have shape \(batch, points, 3\)"):
        make_encoder().observe({"viewport_deg": torch.zeros(shape)})


def test_a_shorter_history_is_refused():
    with pytest.raises(ValueError, match=r"at least 10 points, got 9\. Was the encoder built"):
        make_encoder().observe(make_observation(points=9))


@pytest.mark.parametrize("shape", [(3, 4, 8), (2, 4, 8, 5), (3, 8, 4, 5), (3, 4, 8, 6)])
def test_an_image_of_another_shape_is_refused(shape, unchecked_shapes):
    with pytest.raises(ValueError, match=r"field 'image' must have shape \((3|batch), "):
        make_encoder(image=GRID).observe(make_observation() | {"image": torch.zeros(shape)})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"history": 0}, "must be at least 1, got 32, 0 and 16"),
        ({"image": {"rows": 4, "columns": 8}}, "'channels' .*, got rows, columns"),
        ({"image": {}}, "got nothing"),
        ({"image": GRID | {"depth": 1}}, "got rows, columns, channels, depth"),
        ({"image": GRID | {"rows": 0}}, "must be at least 1, got 16, 0, 8, 5 and 16"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make_encoder(**settings)
