"""`netllm export`."""

from __future__ import annotations

from pathlib import Path

from netllm.commands.options import Data, Output
from netllm.commands.printed_answer import Answer


def export(
    checkpoint: Path,
    /,
    *,
    out: Path,
    format: str = "onnx",
    data: Data = None,
    output: Output = Output(),
) -> Answer:
    """Write an adapted model as one ONNX graph: observation fields in, scores of answers out.

    Args:
        checkpoint: Folder of a run or a checkpoint, of abr or vp.
        out: The file to write.
        format: What is written: onnx.
    """
    from netllm.verbs.export_onnx import export

    file = export(checkpoint, out=out, format=format, data=data)
    return Answer({"file": file}, f"{file} is written.")
