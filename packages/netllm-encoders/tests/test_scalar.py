import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_encoders import Scalar
from netllm_encoders.scalar import check_scale, scaled

NUMBERS = st.floats(-1e6, 1e6, width=32)


def test_values_are_divided_by_the_scale():
    values = torch.tensor([300, 4300], dtype=torch.int64)
    torch.testing.assert_close(
        scaled(values, scale=4300.0, log=False), torch.tensor([300 / 4300, 1.0])
    )


def test_the_logarithm_is_taken_after_the_division():
    values = torch.tensor([0.0, 8.0], dtype=torch.float64)
    expected = torch.tensor([0.0, math.log(1 + 8 / 2)])
    torch.testing.assert_close(scaled(values, scale=2.0, log=True), expected)


@given(NUMBERS)
def test_the_logarithm_is_odd_and_never_larger_than_the_value(number):
    value = torch.tensor([number])
    result = scaled(value, scale=1.0, log=True)
    assert torch.equal(result, -scaled(-value, scale=1.0, log=True))
    # torch's log1p may round up by one unit in the last place.
    assert result.abs() <= value.abs().nextafter(torch.tensor(math.inf))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale):
    with pytest.raises(ValueError, match="must be a positive finite number, got"):
        check_scale(scale)


def test_features_are_two_dense_layers_of_the_scaled_value():
    torch.manual_seed(0)
    scalar = Scalar(hidden=5, scale=10.0)
    first, second = scalar.layers[0], scalar.layers[2]
    expected = torch.nn.functional.gelu(3.5 * first.weight[:, 0] + first.bias)
    expected = torch.nn.functional.gelu(second.weight @ expected + second.bias)
    torch.testing.assert_close(scalar(torch.full((1, 1), 35.0))[0, 0], expected)


def test_each_step_is_encoded_alone():
    scalar = Scalar(hidden=5)
    values = torch.rand(2, 3)
    torch.testing.assert_close(scalar(values)[1, 2], scalar(values[1:, 2:])[0, 0])


def test_a_series_is_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"one number per step, .* got shape \(2, 3, 6\)"):
        Scalar(hidden=5)(torch.zeros(2, 3, 6))
