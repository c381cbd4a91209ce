import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from netllm_encoders.scaling import check_scale, scaled

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
