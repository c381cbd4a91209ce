"""A small event log of real Spark jobs, run in local mode.

    python tools/spark_log.py FILE [--cores 4] [--rows 200000]

Needs `pip install pyspark` and Java. The jobs aggregate, join and sort generated rows, so their
graphs have one to several stages. Of the log only the events and fields are kept that
`netllm_sims.cjs.load_spark` reads and those that say what they are: properties, call sites and
accumulators name paths of the machine, and make up nearly all of the size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

KEPT: dict[str, Any] = {
    "SparkListenerLogStart": ("Spark Version",),
    "SparkListenerJobStart": ("Job ID", "Submission Time", "Stage IDs"),
    "SparkListenerStageCompleted": (),
    "SparkListenerTaskEnd": ("Stage ID", "Stage Attempt ID", "Task Type"),
    "SparkListenerJobEnd": ("Job ID", "Completion Time"),
}
STAGE = (
    "Stage ID", "Stage Attempt ID", "Number of Tasks", "Parent IDs", "Submission Time",
    "Completion Time", "Failure Reason",
)  # fmt: skip
TASK = (
    "Task ID", "Index", "Attempt", "Launch Time", "Executor ID", "Finish Time", "Failed", "Killed",
)  # fmt: skip


def work(folder: Path, cores: int, rows: int) -> Path:
    """Run the jobs; the log that Spark wrote."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.eventLog.enabled", "true")
        .config("spark.eventLog.compress", "false")
        .config("spark.eventLog.rolling.enabled", "false")
        .config("spark.eventLog.dir", folder.as_uri())
        .config("spark.sql.shuffle.partitions", "12")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.autoBroadcastJoinThreshold", "-1")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    orders = spark.range(rows, numPartitions=16).withColumn("customer", F.col("id") % 997)
    customers = spark.range(997, numPartitions=4).withColumn("region", F.col("id") % 7)
    orders.groupBy("customer").count().agg(F.max("count")).collect()
    joined = orders.join(customers, orders["customer"] == customers["id"])
    joined.groupBy("region").agg(F.sum("customer")).orderBy("region").collect()
    spark.sparkContext.parallelize(range(rows), 8).map(lambda n: (n % 100, n)).reduceByKey(
        max, 6
    ).sortByKey().count()
    spark.stop()
    (log,) = (file for file in folder.iterdir() if not file.name.startswith("."))
    return log


def thin(event: dict[str, Any]) -> dict[str, Any] | None:
    """The part of an event that is kept, if any."""
    if event["Event"] not in KEPT:
        return None
    kept = {"Event": event["Event"]}
    kept |= {name: event[name] for name in KEPT[event["Event"]]}
    if "Stage Infos" in event:
        kept["Stage Infos"] = [_only(info, STAGE) for info in event["Stage Infos"]]
    for name, fields in (("Stage Info", STAGE), ("Task Info", TASK)):
        if name in event:
            kept[name] = _only(event[name], fields)
    return kept


def _only(record: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: record[name] for name in fields if name in record}


def main() -> None:
    """Run the jobs and write the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--cores", type=int, default=4)
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = work(Path(folder), args.cores, args.rows)
        with log.open() as lines:
            events = [thin(json.loads(line)) for line in lines]
    kept = [json.dumps(event) for event in events if event is not None]
    args.file.write_text("\n".join(kept) + "\n")
    print(f"{args.file}: {len(kept)} of {len(events)} events")


if __name__ == "__main__":
    main()
