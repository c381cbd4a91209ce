"""Tables that the code itself tells: `{settings} TASK` and `{observation} TASK`."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Settings(SphinxDirective):
    """The settings of a task by name, with a line about each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A table, made as if it stood in the document."""
        from netllm import registry

        settings = registry.task(self.arguments[0]).settings()
        rows = [f"| `{name}` | {text} |" for name, text in settings.items()]
        lines = ["| setting | what it is |", "|---|---|", *rows]
        return self.parse_text_to_nodes("\n".join(lines))


class Observation(SphinxDirective):
    """What an observation of a task holds when a server is asked, field by field."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A table, made as if it stood in the document."""
        from netllm import registry

        task = registry.task(self.arguments[0])
        fields = task.observation_fields(task.setting("synthetic"))
        rows = [
            f"| `{name}` | {' × '.join(map(str, field.shape))} | {field.kind.__name__} | "
            f"{field.text} |"
            for name, field in fields.items()
        ]
        head = ["| field | shape | kind | what it is |", "|---|---|---|---|"]
        return self.parse_text_to_nodes("\n".join(head + rows))


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("settings", Settings)
    app.add_directive("observation", Observation)
    return {"parallel_read_safe": True}
