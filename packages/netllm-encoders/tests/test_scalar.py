import pytest
import torch
from netllm_encoders import Scalar


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
