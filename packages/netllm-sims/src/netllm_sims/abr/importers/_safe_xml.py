"""XML of a user's files: no document type, hence no entities; bounded depth and size."""

from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from netllm_sims.files import reading

_MOST_MB = 50
_MOST_DEPTH = 50
_MOST_ELEMENTS = 1_000_000


class Place(NamedTuple):
    """Where an element stands."""

    file: Path
    lines: dict[int, int]
    """Line of each element, by its `id`."""

    def of(self, element: Element) -> str:
        """File and line of an element."""
        return f"{self.file}:{self.lines[id(element)]}"


def read_xml(path: Path) -> tuple[Element, Place]:
    """Root of an XML file, names without their namespaces, and where its elements stand.

    Raises:
        ValueError: No XML, a document type (which could define entities), more than 50 elements
            within one another, a million elements, or 50 MB; with file and line.
    """
    content = reading.read_bytes(path, most_mb=_MOST_MB)
    parser = expat.ParserCreate(namespace_separator=" ")
    builder, lines, open_elements = TreeBuilder(), dict[int, int](), 0

    def refuse(what: str) -> None:
        raise ValueError(f"{path}:{parser.CurrentLineNumber}: {what}.")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_elements
        open_elements += 1
        if open_elements > _MOST_DEPTH:
            refuse(f"at most {_MOST_DEPTH} elements may lie within one another, got more")
        if len(lines) >= _MOST_ELEMENTS:
            refuse(f"a file must have at most {_MOST_ELEMENTS:,} elements, got more")
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        element = builder.start(name.rpartition(" ")[2], plain)
        lines[id(element)] = parser.CurrentLineNumber

    def end(name: str) -> None:
        nonlocal open_elements
        open_elements -= 1
        builder.end(name.rpartition(" ")[2])

    def document_type(*_: Any) -> None:
        refuse("a document type (<!DOCTYPE …>) is not read, as it can define entities. Remove it")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as fault:
        raise ValueError(
            f"{path}:{fault.lineno}: must be XML: {expat.ErrorString(fault.code)}. Was the file "
            "cut?"
        ) from None
    except LookupError as fault:  # an encoding that Python does not know
        raise ValueError(f"{path}:1: must be XML in UTF-8: {fault}.") from None
    return builder.close(), Place(path, lines)
