"""Profiles of jobs from a person's own files."""

from pathlib import Path

from netllm_sims.cjs.dag import Dag
from netllm_sims.cjs.job_files.alibaba import load_alibaba
from netllm_sims.cjs.job_files.decima_arrays import load_upstream
from netllm_sims.cjs.job_files.spark import load_spark
from netllm_sims.cjs.job_files.spark_events import is_rolled
from netllm_sims.cjs.tpch import load_tpch


def load_dags(path: str | Path) -> list[Dag]:
    """Graphs of a file or folder, told apart by name.

    - `*.json.gz`: the published profiles in one file; see `load_tpch`.
    - `*.csv`: `batch_task` of Alibaba's cluster-trace-v2018; see `load_alibaba`.
    - another file, or a folder with `events_1_…` in it: an event log of Spark; see `load_spark`.
    - a folder with `adj_mat_*.npy` in it or one level below: the published profiles as pickled
      arrays; see `load_upstream`.
    - another folder: all its event logs, files and folders `eventlog_v2_…`, and `*.csv` of
      Alibaba's format, in order of their names.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It holds nothing that can be read.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder of profiles.")
        if path.name.endswith(".json.gz"):
            return list(load_tpch(path).dags)
        return _jobs(path)
    if any(path.glob("adj_mat_*.npy")) or any(path.glob("*/adj_mat_*.npy")):
        return load_upstream(path)
    logs = [path] if is_rolled(path) else [log for log in sorted(path.iterdir()) if _is_log(log)]
    if not logs:
        raise ValueError(f"{path}: the folder must hold event logs or profiles, got no file.")
    return [dag for log in logs for dag in _jobs(log)]


def _jobs(path: Path) -> list[Dag]:
    if path.suffix == ".csv":
        return [job.dag for job in load_alibaba(path).jobs]
    return load_spark(path)


def _is_log(path: Path) -> bool:
    if path.name.startswith((".", "appstatus_")):
        return False
    # a pipe or a link to nothing is no folder: it is refused by its name, not passed over
    return not path.is_dir() or is_rolled(path)
