"""What gymnasium's environments of all tasks share: a part of a setting, and a picture of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium

from netllm_sims.rendering import Rendering
from netllm_sims.setting_values import setting_of


class SettingEnv(Rendering, gymnasium.Env[Any, Any]):  # type: ignore[misc]
    """An environment of one part of a setting.

    Args:
        setting: A setting's name, or a setting.
        part: `train`, `valid` or `test`.
        data: Folder of the real data; by default the environment variable NETLLM_DATA.
        render_mode: How it is shown.
        overrides: Fields of the setting to change.
    """

    named: ClassVar[Callable[..., Any]]
    """The task's function that builds a setting by name."""
    setting: Any
    part: str

    def __init__(
        self,
        *,
        setting: Any = "default",
        part: str = "train",
        data: str | Path | None = None,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        self._show_as(render_mode)
        self.setting = setting_of(setting, data, overrides, named=type(self).named)
        self.part = part
        self._prepare()

    def _prepare(self) -> None:
        """Read the part of the setting, and say what is seen and done."""
        raise NotImplementedError
