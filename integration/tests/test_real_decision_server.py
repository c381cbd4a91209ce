"""The server that decides for real players, in a process of its own."""

import os
from functools import partial

import pytest
from netllm.real.decision_server import deciding
from netllm.serve.build_seats import build_seats
from netllm.serve.limits import Limits


def test_what_keeps_it_from_deciding_is_raised_where_it_was_asked_for():
    seat = partial(build_seats, {"abr": "nowhere"}, settings={}, fallbacks={}, data=None)
    with pytest.raises(ValueError, match="nowhere holds no checkpoint"), deciding(seat, Limits()):
        pytest.fail("nobody decides")


def test_a_process_that_ends_before_it_serves_is_told():
    with (
        pytest.raises(RuntimeError, match="has ended, with 3, before it served"),
        deciding(partial(os._exit, 3), Limits()),
    ):
        pytest.fail("nobody decides")
