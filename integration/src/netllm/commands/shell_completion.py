"""`netllm completion`."""

from __future__ import annotations

from typing import Literal

from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer


def completion(shell: Literal["bash", "zsh", "fish"], /, *, output: Output = Output()) -> Answer:
    """Print a script with which a shell completes commands and options.

    For bash: `netllm completion bash > ~/.local/share/bash-completion/completions/netllm`. For zsh
    write it to a file `_netllm` in a folder of `fpath`, for fish to
    `~/.config/fish/completions/netllm.fish`.

    Args:
        shell: The shell that reads it.
    """
    from netllm.cli import app

    script = app.generate_completion(prog_name="netllm", shell=shell)
    return Answer({"shell": shell, "script": script}, script)
