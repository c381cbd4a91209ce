"""What a cluster tells before its free executors are committed."""

from netllm_sims.cjs.observation import JOB_COLUMNS, STAGE_COLUMNS

from netllm.task.observation_fields import LARGEST, ObservationField

EXECUTORS = 100_000
"""More are taken for a mistake."""


def _flags(text: str) -> ObservationField:
    return ObservationField(text, ("stage",), bool)


OBSERVATION_FIELDS = {
    "stages": ObservationField(
        f"Unfinished stages of active jobs, in their jobs' order: {', '.join(STAGE_COLUMNS)}.",
        ("stage", len(STAGE_COLUMNS)),
        least=-1e9,
        most=LARGEST,
    ),
    "jobs": ObservationField(
        f"Active jobs in order of arrival: {', '.join(JOB_COLUMNS)}.",
        ("job", len(JOB_COLUMNS)),
        least=-1e9,
        most=LARGEST,
    ),
    "edges": ObservationField(
        "Pairs (parent, child) of rows of `stages`.", ("edge", 2), int, rows_of="stage"
    ),
    "schedulable": _flags("Whether the stage may be chosen."),
    "frontier": _flags("Whether all of the stage's parents are finished."),
    "stage_job": ObservationField("Row of the stage's job.", ("stage",), int, rows_of="job"),
    "committable": ObservationField(
        "Executors to be committed.", kind=int, least=1, most=EXECUTORS
    ),
    "executors": ObservationField("Executors of the cluster.", kind=int, least=1, most=EXECUTORS),
    "source_job": ObservationField(
        "Row of the job that releases them, or -1.", kind=int, least=-1, rows_of="job"
    ),
    "time_ms": ObservationField("Time since the start.", least=0, most=LARGEST),
    "job_ms": ObservationField(
        "Time that all jobs together have spent in the cluster so far.", least=0, most=LARGEST
    ),
    "can_wait": ObservationField(
        "Whether nothing may be chosen, since something else will happen.", kind=bool
    ),
}
"""The fields of `netllm_sims.cjs.observe`."""
