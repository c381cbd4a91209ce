import gc
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import jaxtyping
import pytest

jaxtyping.install_import_hook("netllm.report.intervals", "beartype.beartype")

from netllm.cli import main  # noqa: E402

OWN = Path(__file__).parent / "own"


@pytest.fixture(autouse=True)
def _own_policies_and_no_data(monkeypatch):
    """Work where `own_policies.py` lies, on generated data."""
    monkeypatch.chdir(OWN)
    monkeypatch.delenv("NETLLM_DATA", raising=False)


REAL_DATA = os.environ.get("NETLLM_DATA")


@pytest.fixture
def real_data():
    if not REAL_DATA or not Path(REAL_DATA, "abr").is_dir():
        pytest.skip("needs the real data: set NETLLM_DATA to a folder laid out like it")
    return Path(REAL_DATA)


@pytest.fixture
def one_thread():
    """Let torch compute in one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def netllm(capsys):
    """Run one command of the program: exit code, standard output, standard error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package where pip would: its modules, and what it registers; gives both folders."""

    def run(name, version, entry_points, modules):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, points in entry_points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        folders = [str(info.parent), str(modules)]
        for folder in folders:
            monkeypatch.syspath_prepend(folder)
        return os.pathsep.join(folders)

    return run


@pytest.fixture(scope="session")
def varied():
    """A model of a task whose answers vary, untrained, on a tiny backbone: (task, setting, model).

    Made when it is asked for first; nobody may change it.
    """
    changes = {"cjs": {"num_jobs": 4, "num_executors": 6}}

    @cache
    def run(name, **more):
        import torch
        from netllm import registry
        from netllm.task.build_model import build_model

        task = registry.task(name)
        overrides = {**changes.get(name, {}), **more}
        setting = task.setting("synthetic", **overrides)
        # In bfloat16 an answer that is a near tie depends on who is answered beside it.
        recipe = replace(task.recipe("tiny-random"), dtype="float32")
        model = build_model(task, setting, "tiny-random", recipe).eval()
        model.about |= {"task": name, "setting": "synthetic", "overrides": overrides}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        return task, setting, model

    return run


@pytest.fixture
def seat(varied):
    """A varied model of a task at its place in a server; `wrap` may put a policy around it.

    `rule` answers where it is late, in place of the task's own fallback.
    """
    from netllm import registry
    from netllm.serve.seat import Seat

    def run(name="abr", wrap=lambda policy: policy, rule=None, **overrides):
        task, setting, model = varied(name, **overrides)
        return Seat(
            task=task,
            setting=setting,
            policy=wrap(task.policy(model, setting)),
            fallback=registry.policy(name, rule or task.fallback, setting),
            fallback_name=rule or task.fallback,
        )

    return run


@pytest.fixture(scope="session")
def real_player():
    """Name a real player: skips unless there is all that it needs."""
    import importlib.util
    import shutil

    from netllm.real.browser import program
    from netllm.real.player_library import library

    @cache
    def lacking(name):
        missing = [one for one in ("ffmpeg", "npm") if shutil.which(one) is None]
        try:
            program()
        except FileNotFoundError:
            missing.append("chromium")
        if importlib.util.find_spec("playwright") is None:
            missing.append("playwright")
        if missing:
            return f"not installed: {', '.join(missing)}"
        try:
            library(name)
        except ConnectionError as error:
            return str(error)
        return ""

    def run(name):
        if reason := lacking(name):
            pytest.skip(reason)
        return name

    return run


@pytest.fixture(scope="session")
def tc_link():
    """Skips unless `--link tc` is possible here."""
    import asyncio

    from netllm.real.cable import cable

    async def tried():
        async with cable():
            pass

    try:
        asyncio.run(tried())
    except (OSError, RuntimeError) as error:
        pytest.skip(str(error))


@pytest.fixture
def collected():
    """Collect a test's garbage under the test's own filters of warnings, not in another's."""
    yield
    gc.collect()


class Watched:
    """A policy that keeps what it is asked about; the rest is another's."""

    def __init__(self, policy):
        self._policy, self.seen = policy, []
        for name in ("reset", "open", "close", "took"):
            setattr(self, name, getattr(policy, name))

    def act(self, observation):
        self.seen.append({name: values.copy() for name, values in observation.items()})
        return self._policy.act(observation)


@pytest.fixture
def watched(seat):
    """A seat for abr, and the list of what its model is asked about."""
    built = seat(wrap=Watched)
    return built, built.policy.seen


@pytest.fixture
def served():
    """Serve some seats in a thread, on a free port: gives an HTTP client of it, and the service."""
    import httpx
    from netllm.serve.limits import Limits
    from netllm.serve.run import address, listening, server_of
    from netllm.serve.service import Service

    def run(*seats, token=None, allow_origins=(), puffer=None, **limits):
        service = Service({seat.name: seat for seat in seats}, Limits(**limits))
        server = server_of(service, token=token, allow_origins=allow_origins, puffer=puffer)
        listener = ends.enter_context(listening("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        def stop():
            server.should_exit = True
            thread.join()

        ends.callback(stop)
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        client = httpx.Client(base_url=address(listener), timeout=120, trust_env=False)
        return ends.enter_context(client), service

    with ExitStack() as ends:
        yield run
