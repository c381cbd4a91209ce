import sys

import pytest
import torch
from netllm_encoders import Scalar, Series, field_encoder, kinds


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A real installed distribution with two kinds of its own, one lacking its extra."""
    (tmp_path / "plugin.py").write_text(
        "import torch\n"
        "class Sign(torch.nn.Module):\n"
        "    def __init__(self, *, hidden):\n"
        "        super().__init__()\n"
        "        self.hidden = hidden\n"
        "    def forward(self, values):\n"
        "        return values.sign()[..., None].expand(*values.shape, self.hidden)\n"
    )
    (tmp_path / "plugin_vision.py").write_text("import no_such_library\n")
    info = tmp_path / "netllm_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: netllm-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[netllm.encoders.fields]\nsign = plugin:Sign\nimage = plugin_vision:Image [vision]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("plugin", None)


def test_our_kinds_are_registered_as_anybodys():
    assert kinds()["scalar"].load() is Scalar
    assert kinds()["series"].load() is Series


def test_a_declared_field_gets_its_kind_with_its_settings():
    encoder = field_encoder("delay_s", {"kind": "series", "length": 4, "log": True}, hidden=3)
    assert isinstance(encoder, Series)
    assert encoder.shape == (4,)
    assert encoder.log
    assert encoder(torch.rand(1, 2, 4)).shape == (1, 2, 3)


def test_a_kind_of_another_distribution_needs_only_its_entry_point(plugin):
    encoder = field_encoder("trend", {"kind": "sign"}, hidden=2)
    assert encoder(torch.tensor([[-3.0, 2.0]])).tolist() == [[[-1, -1], [1, 1]]]


def test_an_unknown_kind_lists_the_nearest():
    with pytest.raises(ValueError, match=r"field 'delay_s': .*got 'serie'. Did you mean 'series'"):
        field_encoder("delay_s", {"kind": "serie"}, hidden=3)


def test_a_field_without_kind_lists_all():
    with pytest.raises(ValueError, match=r"got None. Did you mean 'scalar' or 'series'"):
        field_encoder("delay_s", {"length": 3}, hidden=3)


def test_an_unknown_setting_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown setting 'lenght' .* It has: length, channels,"):
        field_encoder("delay_s", {"kind": "series", "lenght": 6}, hidden=3)


def test_a_missing_setting_is_named():
    with pytest.raises(ValueError, match=r"field 'delay_s': .*'length'"):
        field_encoder("delay_s", {"kind": "series"}, hidden=3)


def test_a_setting_out_of_range_names_the_field():
    with pytest.raises(ValueError, match="field 'delay_s': `scale` must be a positive"):
        field_encoder("delay_s", {"kind": "scalar", "scale": 0}, hidden=3)


def test_a_kind_whose_extra_is_missing_prints_the_pip_install(plugin):
    with pytest.raises(
        ModuleNotFoundError,
        match=r"needs the module 'no_such_library'.*pip install \"netllm-plugin\[vision\]\"",
    ):
        field_encoder("view", {"kind": "image"}, hidden=3)
