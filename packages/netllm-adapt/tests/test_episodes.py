"""Returns-to-go are the suffix sums of one episode's rewards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from netllm_adapt.episodes import return_to_go


def test_returns_are_the_sums_of_what_is_to_come() -> None:
    assert return_to_go(np.array([1.0, 2.0, -4.0])).tolist() == [-1.0, -2.0, -4.0]


def test_a_discount_weighs_later_rewards_less() -> None:
    # By hand: 1 + 0.5·2 + 0.25·4 = 3, 2 + 0.5·4 = 4.
    assert return_to_go(np.array([1.0, 2.0, 4.0]), discount=0.5).tolist() == [3.0, 4.0, 4.0]


@given(
    arrays(np.float64, array_shapes(min_dims=1, max_dims=2), elements=st.floats(-100, 100)),
    st.floats(0, 1),
)
def test_returns_obey_their_recursion_within_each_episode(
    rewards: np.ndarray, discount: float
) -> None:
    returns = return_to_go(rewards, discount=discount)
    np.testing.assert_array_equal(returns[..., -1], rewards[..., -1])
    expected = rewards[..., :-1] + discount * returns[..., 1:]
    np.testing.assert_allclose(returns[..., :-1], expected, atol=1e-9)


def test_returns_never_cross_into_another_episode() -> None:
    rewards = np.array([[1.0, 1.0], [5.0, 7.0]])
    changed = rewards.copy()
    changed[1] = 99.0
    np.testing.assert_array_equal(return_to_go(rewards)[0], return_to_go(changed)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_returns_have_the_rewards_float_type(dtype: type[np.floating]) -> None:
    assert return_to_go(np.ones(3, dtype)).dtype == dtype


def test_small_rewards_are_summed_without_losing_digits() -> None:
    rewards = np.full(100_000, 0.1, np.float32)
    assert return_to_go(rewards)[0] == pytest.approx(1e5 * float(np.float32(0.1)), rel=1e-7)


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.int8, np.uint8, np.bool_])
def test_whole_rewards_give_float_returns(dtype: type[np.generic]) -> None:
    rewards = np.full(100_000, 100).astype(dtype)
    returns = return_to_go(rewards)
    assert returns.dtype == np.float64
    assert returns[0] == 100_000 * int(rewards[0])  # 1e7: beyond float16
    assert returns[-1] == int(rewards[0])


@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_a_discount_outside_its_range_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        return_to_go(np.ones(2), discount=discount)
