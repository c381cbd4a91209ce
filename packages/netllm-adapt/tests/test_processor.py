"""The processor's name and abilities, from what the system says."""

from pathlib import Path

import pytest
from netllm_adapt.processor import cpu_facts, processor

INTEL = (
    "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 167\nmodel name\t: Xeon\n"
    "flags\t\t: sse avx512f avx512_vnni amx_tile\n\nprocessor\t: 1\nmodel name\t: Other\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "name", "numbers", "flags"),
    [
        (INTEL, "Xeon", ("family 6", "model 167"), {"avx512f", "amx_tile"}),
        (ARM, "", (), {"asimd", "bf16"}),
        ("", "", (), set()),
    ],
)
def test_a_processor_is_read_from_what_linux_tells(
    text: str, name: str, numbers: tuple[str, ...], flags: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    found = cpu_facts(file)
    assert (found.name, found.numbers) == (name, numbers)
    assert flags <= found.flags


def test_another_system_tells_no_flags_but_some_name() -> None:
    assert cpu_facts(Path("none")) == ("", (), frozenset())
    assert isinstance(processor(), str)
