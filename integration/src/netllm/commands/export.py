"""`netllm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.verbs import export_onnx


@options_of(export_onnx.export)
def export(checkpoint: Path, **options: Any) -> Answer:
    """Write a model as one graph."""
    file = export_onnx.export(checkpoint, **options)
    return Answer({"file": file}, f"{file} is written.")
