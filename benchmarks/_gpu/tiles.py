"""The search for the kernels' best tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from _gpu.timing import Place, Row, draw, median_ms

SIDES: dict[str, tuple[tuple[int, ...], ...]] = {
    # bm, bn, bk, warps, stages
    "gemm": ((128,), (128, 256), (32, 64), (4, 8), (3, 4)),
    "gemm_drops": ((64, 128), (128,), (32, 64), (4, 8), (3, 4)),
    "shrink": ((16, 32, 64), (0,), (64, 128), (4, 8), (3, 4)),
    "grad_a": ((32, 64, 128), (0,), (64, 128), (4, 8), (3, 4)),
    "grads_of_small": ((256, 512), (32, 64), (0,), (4, 8), (2, 3)),
}


def tiles(place: Place) -> Iterator[Row]:
    """The fastest of some tiles for each kernel and rank, against the table's."""
    from netllm_adapt.lora import triton_launch
    from netllm_adapt.lora.triton_launch import Tile

    x, w = (draw(side, place.width, place=place) for side in (place.rows, place.width))
    for rank in (16, 32, 128):
        u, v = draw(place.rows, rank, place=place), draw(place.width, rank, place=place)
        v_t = v.t().contiguous()
        calls: dict[str, Callable[[Tile | None], Any]] = {
            "gemm": lambda tile, u=u, v=v: triton_launch.gemm(x, w.t(), u, v.t(), None, tile=tile),
            "gemm_drops": lambda tile, u=u, v_t=v_t: triton_launch.gemm(
                x, w, u, v_t, None, 0.1, 7, tile=tile
            ),
            "shrink": lambda tile, v_t=v_t: triton_launch.shrink(x, v_t, 1.0, 0.0, 0, tile),
            "grad_a": lambda tile, u=u, v_t=v_t: triton_launch.grad_a(u, x, v_t, 0.0, 0, tile),
            "grads_of_small": lambda tile, u=u, v=v: triton_launch.grads_of_small(
                x, v, u, 1.0, tile
            ),
        }
        if rank > 32:  # there it is the kernels before it
            del calls["grads_of_small"]
        for kernel, call in calls.items():
            table = median_ms({"table": lambda call=call: call(None)}, place)["table"]
            found, misfits = _search(call, SIDES[kernel], place)
            yield {
                "kernel": kernel,
                "rank": rank,
                "table ms": table,
                "best ms": min(found.values()),
                "best": " ".join(map(str, min(found, key=found.__getitem__))),
                "do not fit": misfits,
            }


def _search(
    call: Callable[[Any], Any], sides: tuple[tuple[int, ...], ...], place: Place
) -> tuple[dict[tuple[int, ...], float], int]:
    """Milliseconds by tile, and how many tiles do not fit the GPU."""
    from netllm_adapt.lora.triton_launch import Tile
    from triton.runtime.errors import OutOfResources

    found, misfits = {}, 0
    for sizes in product(*sides):
        tile = Tile(*sizes)
        try:
            found[sizes] = median_ms({"it": lambda tile=tile: call(tile)}, place)["it"]
        except OutOfResources:
            misfits += 1
    return found, misfits
