import torch
from netllm_encoders import Projection


def test_vectors_are_a_linear_map_per_token_then_a_layer_norm():
    torch.manual_seed(0)
    projection = Projection(hidden=4, width=8, tokens=3, gain=0.5)
    features = torch.randn(3, 5, 4)
    vectors = projection(features)
    for token in range(3):
        linear = features[token] @ projection.weight[token] + projection.bias[token]
        expected = 0.5 * torch.nn.functional.layer_norm(linear, (8,))
        torch.testing.assert_close(vectors[:, token], expected)


def test_the_gain_is_the_deviation_within_a_vector_at_the_start():
    vectors = Projection(hidden=4, width=512, gain=0.1)(torch.randn(1, 50, 4))
    torch.testing.assert_close(
        vectors.std(-1, correction=0), torch.full((50, 1), 0.1), rtol=1e-2, atol=0
    )


def test_a_gain_may_be_a_whole_number():
    projection = Projection(hidden=4, width=8, gain=1)
    assert projection.gain.dtype == torch.float32
