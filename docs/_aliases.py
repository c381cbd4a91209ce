"""A class that several packages offer is described on the page of each."""

from __future__ import annotations

from typing import Any

from sphinx.domains.python import PythonDomain


class Python(PythonDomain):
    """Sphinx's domain, without a warning when a class is found under a second public name."""

    def note_object(
        self, name: str, objtype: str, node_id: str, aliased: bool = False, location: Any = None
    ) -> None:
        """Note a name unless it is where an already described class is defined."""
        if not (aliased and name in self.objects):
            super().note_object(name, objtype, node_id, aliased, location)


def setup(app: Any) -> dict[str, bool]:
    """Take the place of Sphinx's domain."""
    app.add_domain(Python, override=True)
    return {"parallel_read_safe": True}
