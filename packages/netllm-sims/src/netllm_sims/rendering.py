"""What environments share that show themselves: as arrays of pixels, or in a window."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from netllm_sims.setting_values import unknown

MODES = ("rgb_array", "human")
_SIZE_INCHES = (8.0, 4.5)
_DOTS_PER_INCH = 80
_WITHOUT_WINDOW = frozenset({"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"})


class Rendering:
    """An environment that draws itself with matplotlib, of the extra `render`.

    `render_mode="rgb_array"`: `render()` gives a picture of 360 x 640 pixels. `"human"`: a window
    shows each state after `reset` and `step`. None: nothing is drawn.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(MODES), "render_fps": 4}
    render_mode: str | None = None
    _figure: Any = None

    def _show_as(self, render_mode: str | None) -> None:
        """Set how the environment is shown.

        Raises:
            ValueError: There is no such way.
            ImportError: matplotlib is not installed.
            RuntimeError: matplotlib can open no window here.
        """
        if render_mode is None:
            return
        if render_mode not in MODES:
            raise ValueError(unknown("render mode", render_mode, MODES))
        try:
            import matplotlib
        except ImportError:
            raise ImportError(
                f"`render_mode={render_mode!r}` needs matplotlib. In a clone: "
                'python -m pip install "./packages/netllm-sims[render]"'
            ) from None
        if render_mode == "human" and matplotlib.get_backend().lower() in _WITHOUT_WINDOW:
            raise RuntimeError(
                "`render_mode='human'` needs a window, and matplotlib's backend here is "
                f"{matplotlib.get_backend()!r}, which has none. Set MPLBACKEND to another one, as "
                "TkAgg, or choose 'rgb_array'."
            )
        self.render_mode = render_mode

    def render(self) -> UInt8[ndarray, "height width 3"] | None:
        """The present state as pixels for `rgb_array`; None otherwise."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                "`render` draws nothing: make the environment with `render_mode='rgb_array'`."
            )
            return None
        if self.render_mode == "human":
            self._present()
            return None
        figure = self._canvas()
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._figure is not None and self.render_mode == "human":
            from matplotlib import pyplot

            pyplot.close(self._figure)
        self._figure = None

    def _refresh(self) -> None:
        """Show the new state in the window, if there is one."""
        if self.render_mode == "human":
            self._present()

    def _present(self) -> None:
        from matplotlib import pyplot

        figure = self._canvas()
        figure.canvas.draw_idle()
        figure.show()
        pyplot.pause(1 / self.metadata["render_fps"])

    def _canvas(self) -> Any:
        """The figure with the present state drawn."""
        if self._figure is None:
            size: dict[str, Any] = {"figsize": _SIZE_INCHES, "dpi": _DOTS_PER_INCH}
            if self.render_mode == "human":
                from matplotlib import pyplot

                self._figure = pyplot.figure(**size, layout="constrained")
            else:
                from matplotlib.backends.backend_agg import FigureCanvasAgg
                from matplotlib.figure import Figure

                self._figure = Figure(**size, layout="constrained")
                FigureCanvasAgg(self._figure)
        self._figure.clear()
        self._draw(self._figure)
        return self._figure

    def _draw(self, figure: Any) -> None:
        """Draw the present state into an empty figure."""
        raise NotImplementedError
