"""Ray's workers do what processes of this machine do, and a killed one costs only its work."""

import os
import signal
import time
from functools import partial
from operator import mul

import netllm as library
import pytest
from netllm.verbs.parallel import results

ray = pytest.importorskip("ray", reason="needs Ray: install netllm[ray]")
# Ray's own processes end after the objects that stand for them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

TINY = {"backbone": "tiny-random", "dtype": "float32", "layers": 1, "rank": 2, "validation": 2}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A cluster of two workers, which `on_ray` joins."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def die_at_first(path):
    """End the worker the first time, answer the second."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number):
    error = LookupError(f"number {number}")
    error.add_note("It was nobody.")
    raise error


def late(number):
    time.sleep(1.0 if number == 0 else 0.0)
    return number, os.getpid()


def test_results_come_in_the_order_of_the_calls_from_other_processes():
    with library.on_ray():
        found = list(results((partial(late, number) for number in range(20)), jobs=2))
    numbers, processes = zip(*found, strict=True)
    assert numbers == tuple(range(20))
    assert os.getpid() not in processes
    assert list(results([partial(mul, 2, 3)], jobs=1)) == [6]  # out of the block: here


def test_a_killed_worker_costs_its_work_alone(tmp_path):
    calls = [partial(mul, 2, 1), partial(die_at_first, tmp_path / "died"), partial(mul, 2, 3)]
    with library.on_ray():
        first, second, third = results(calls, jobs=2)
    assert (first, third) == (2, 6)
    assert second != os.getpid()


def test_workers_that_die_again_and_again_are_given_up():
    with library.on_ray(), pytest.raises(RuntimeError, match="its worker died 4 times"):
        list(results([partial(die, 0)], jobs=1))


def test_an_error_is_the_one_of_the_work():
    with library.on_ray(), pytest.raises(LookupError, match="number 7") as caught:
        list(results([partial(refuse, 7)], jobs=1))
    assert caught.value.__notes__ == ["It was nobody."]


def test_a_pool_and_a_report_are_those_of_one_process(tmp_path):
    how = {"policy": ["bba", "mpc"], "setting": "synthetic", "episodes": 600, "epsilon": 0.1}
    here = library.rl_collect("abr", out=tmp_path / "here", **how)
    with library.on_ray():
        there = library.rl_collect("abr", out=tmp_path / "there", jobs=2, **how)
    assert [one.id for one in there] == [one.id for one in here]
    assert len({one.id for one in there}) == 600
    for ours, others in zip(there, here, strict=True):
        assert ours.rewards.tolist() == others.rewards.tolist()
    run = tmp_path / "run"
    library.adapt("abr", pool=here.path, out=run, steps=2, **TINY)
    contenders = {"policy": "bba", "checkpoint": run, "setting": "synthetic", "episodes": 100}
    one = library.test("abr", **contenders)
    with library.on_ray():
        two = library.test("abr", jobs=2, **contenders)
    for ours, others in zip(two.results, one.results, strict=True):
        assert ours.metrics == others.metrics


def test_the_program_sends_work_to_a_cluster(netllm, tmp_path):
    small = ("--policy", "own_policies:lowest", "--setting", "synthetic", "--episodes", 4)
    code, out, err = netllm("test", "abr", *small, "--jobs", 2, "--backend", "ray", "--json")
    assert code == 0, err
    assert '"lowest"' in out or "own_policies" in out
    code, _, err = netllm("test", "abr", *small, "--address", "auto")
    assert code == 2
    assert "Add --backend ray" in err
