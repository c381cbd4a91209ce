import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.cjs.engine import python_sets


@numba.njit
def replay(toggles, cells):
    """Members in order after each toggle, under one another; -1 where there are fewer."""
    table = np.zeros((1, cells), np.int32)
    sets, spare = np.zeros((1, 4), np.int32), np.zeros((2, cells), np.int64)
    python_sets.clear(table, sets, 0)
    inside = np.zeros(toggles.max() + 1, np.bool_)
    order = np.full((len(toggles), len(inside)), -1)
    for k, key in enumerate(toggles):
        if inside[key]:
            python_sets.remove(table, sets, 0, key)
        else:
            python_sets.add(table, sets, 0, key, spare)
        inside[key] = not inside[key]
        count = 0
        for i in range(sets[0, 0] + 1):
            if table[0, i] > 0:
                order[k, count] = table[0, i] - 1
                count += 1
    return order


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300))
def test_ten_executors_leave_a_set_in_the_order_of_pythons(toggles):
    same_order(toggles)


@given(st.lists(st.integers(0, 59), min_size=1, max_size=300))
def test_sixty_executors_leave_a_set_in_the_order_of_pythons(toggles):
    same_order(toggles)


def same_order(toggles):
    members = set()
    for key, order in zip(toggles, replay(np.array(toggles), 512), strict=True):
        members.remove(key) if key in members else members.add(key)
        assert order[order >= 0].tolist() == list(members)
