"""Profiles of jobs from a person's own files."""

from pathlib import Path

from netllm_sims.cjs.alibaba import load_alibaba
from netllm_sims.cjs.dag import Dag
from netllm_sims.cjs.spark import load_spark
from netllm_sims.cjs.tpch import load_tpch
from netllm_sims.cjs.upstream import load_upstream


def load_dags(path: str | Path) -> list[Dag]:
    """Graphs of a file or folder, told apart by name.

    - `*.json.gz`: the published profiles in one file; see `load_tpch`.
    - `*.csv`: `batch_task` of Alibaba's cluster-trace-v2018; see `load_alibaba`.
    - another file: an event log of Spark; see `load_spark`.
    - a folder with `adj_mat_*.npy` in it or one level below: the published profiles as pickled
      arrays; see `load_upstream`.
    - another folder: all its event logs, in order of their names.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It holds nothing that can be read.
    """
    path = Path(path)
    if path.is_file():
        if path.name.endswith(".json.gz"):
            return list(load_tpch(path).dags)
        if path.suffix == ".csv":
            return [job.dag for job in load_alibaba(path).jobs]
        return load_spark(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such file or folder of profiles.")
    if any(path.glob("adj_mat_*.npy")) or any(path.glob("*/adj_mat_*.npy")):
        return load_upstream(path)
    files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    if not files:
        raise ValueError(f"{path}: the folder must hold event logs or profiles, got no file.")
    return [dag for file in files for dag in load_spark(file)]
