"""The small parts, made known as an installed package's are."""

from __future__ import annotations

import pytest

GROUPS = """[netllm.encoders]
linear = adapt_parts:LinearEncoder
list = adapt_parts:ListEncoder
sum = adapt_parts:SumEncoder

[netllm.heads]
linear = adapt_parts:LinearHead
pick = adapt_parts:PickHead
sum = adapt_parts:SumHead
"""


@pytest.fixture
def registered_parts(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts above, made known by a real entry-point file."""
    info = tmp_path_factory.mktemp("site") / "netllm_adapt_test_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: netllm-adapt-test-parts\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(GROUPS)
    monkeypatch.syspath_prepend(str(info.parent))
