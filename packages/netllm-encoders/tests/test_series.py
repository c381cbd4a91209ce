import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_encoders import Series


def test_features_are_a_convolution_along_the_rows_and_a_dense_layer():
    torch.manual_seed(0)
    series = Series(hidden=5, length=4, channels=2, scale=2.0, log=True)
    values = torch.rand(1, 1, 4, 2)
    rows = torch.nn.functional.pad((values[0, 0] / 2).log1p(), (0, 0, 1, 1))
    weight, bias = series.convolution.weight, series.convolution.bias
    convolved = torch.stack(
        [torch.einsum("kc,hck->h", rows[row : row + 3], weight) + bias for row in range(4)], dim=1
    )
    dense = series.layers[1]
    expected = dense.weight @ torch.nn.functional.gelu(convolved).flatten() + dense.bias
    torch.testing.assert_close(series(values)[0, 0], torch.nn.functional.gelu(expected))


def test_each_step_is_encoded_alone():
    series = Series(hidden=5, length=6)
    values = torch.rand(2, 3, 6)
    torch.testing.assert_close(series(values)[1, 2], series(values[1:, 2:])[0, 0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_steps_have_no_features(shape):
    assert Series(hidden=5, length=6, channels=2)(torch.rand(*shape, 6, 2)).shape == (*shape, 5)


def test_only_the_first_rows_taken_matter():
    series = Series(hidden=5, length=6, channels=4, take=2)
    values = torch.rand(1, 1, 6, 4)
    changed = values.clone()
    changed[:, :, 2:] += 1
    assert torch.equal(series(values), series(changed))
    changed[:, :, 1] += 1
    assert not torch.equal(series(values), series(changed))


@given(
    length=st.integers(1, 7),
    channels=st.none() | st.integers(1, 3),
    take=st.none() | st.integers(1, 7),
    kernel=st.integers(1, 8),
)
def test_any_declared_shape_gives_one_feature_vector_per_step(length, channels, take, kernel):
    take = take and min(take, length)
    series = Series(hidden=3, length=length, channels=channels, take=take, kernel=kernel)
    shape = (length,) if channels is None else (length, channels)
    assert series(torch.rand(2, 3, *shape)).shape == (2, 3, 3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 6, 1)])
def test_another_shape_is_refused(shape, unchecked_shapes):
    with pytest.raises(ValueError, match=r"must have shape \(batch, step, 6\), got \(2, 3"):
        Series(hidden=3, length=6)(torch.zeros(shape))


@pytest.mark.parametrize("settings", [{"length": 0}, {"length": 6, "kernel": 0}])
def test_settings_below_one_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        Series(hidden=3, **settings)


@pytest.mark.parametrize("take", [0, 7])
def test_rows_that_are_not_there_cannot_be_taken(take):
    with pytest.raises(ValueError, match=f"between 1 and `length` = 6, got {take}"):
        Series(hidden=3, length=6, take=take)
