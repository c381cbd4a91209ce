"""Everything that needs a GPU, in one run of under eight minutes.

    python benchmarks/gpu.py [--quick] [--only PART ...] [--json FILE]

Every part runs in a process of its own, so that one that fails, or an illegal access on the GPU,
leaves the others alone; what was measured is printed and written at once, under the card's name.
Times are medians between CUDA events, ways in turn. At the end comes what the figures say of the
goals. `--only tiles` searches the kernels' best tiles instead. `--device cpu` rehearses the script
at tiny sizes. Exits with 1 if a part failed, or if there is no GPU.

The goals are those of the project's plan for an H100: an overhead over the frozen layer of at most
12 % (rank up to 32) and 16 % (rank 128), at least 1.33 times PEFT, 1.45 with dropout, 1.9 times
PEFT's default of float32 matrices, the main product within 3 % of cuBLAS, and three adapters in a
batch within 5 % of one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import adapt_throughput
import decision_latency
import torch
from netllm_adapt import load_backbone
from netllm_adapt.lean_training import library_training
from netllm_adapt.lora import (
    Adapter,
    LoraLinear,
    chosen,
    lora_linear,
    lora_linear_mixed,
    use_backend,
)
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

KINDS = "y", "dX"
Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where and how large."""

    device: str
    rows: int
    width: int
    repeats: int
    backbone: str

    @property
    def backends(self) -> tuple[str, ...]:
        return ("torch", "triton") if self.device == "cuda" else ("torch",)


def median_ms(calls: dict[str, Callable[[], Any]], place: Place) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(place.repeats + 3):
        for name, call in calls.items():
            spent = _once(call, place.device)
            if turn >= 3:  # compiling and warming up
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def _once(call: Callable[[], Any], device: str) -> float:
    if device != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last))


def draw(*shape: int, place: Place, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, device=place.device, dtype=torch.float32).to(dtype)


def correctness(place: Place) -> Iterator[Row]:
    """Errors against double precision, of each back end and of the reference in the same dtype."""
    for dtype in (torch.bfloat16, torch.float16):
        for rank, share in ((1, 0.0), (16, 0.0), (128, 0.0), (32, 0.3)):
            m, k, n = place.rows // 4 + 3, place.width, place.width // 2
            rank = min(rank, n)
            shapes = ((m, k), (n, k), (n,), (rank, k), (n, rank))
            tensors = [draw(*shape, place=place, dtype=dtype) for shape in shapes]
            exact = _results([t.double() for t in tensors], "reference", share)
            row: Row = {"dtype": str(dtype), "rank": rank, "dropout": share}
            for backend in ("reference", *place.backends):
                found = _results(tensors, backend, share)
                row[backend] = max(
                    float((f.double() - e).norm() / e.norm())
                    for f, e in zip(found, exact, strict=True)
                )
                again = _results(tensors, backend, share)
                row[f"{backend} repeats"] = all(map(torch.equal, found, again))
            yield row


def _results(tensors: list[Tensor], backend: str, share: float) -> list[Tensor]:
    own = [tensor.clone().requires_grad_() for tensor in tensors]
    with use_backend(backend):
        y = lora_linear(*own, 0.5, dropout=share, seed=7)
        y.backward(torch.ones_like(y))
    return [y.detach(), *(t.grad for t in own if t.grad is not None)]


def layer(kind: type[Linear], rank: int, share: float, dtype: torch.dtype, place: Place) -> Linear:
    base = nn.Linear(place.width, place.width, bias=False, device=place.device)
    base = base.to(torch.bfloat16).requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=share)
    built = kind(base, "default", config, r=rank, lora_alpha=2 * rank).to(place.device)
    for matrices in (built.lora_A, built.lora_B):
        matrices.to(dtype)
    return built


def operation(place: Place) -> Iterator[Row]:
    """Forward and backward pass of a layer: milliseconds, and the overhead over the frozen one."""
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    for rank, share in ((16, 0.0), (32, 0.0), (64, 0.0), (128, 0.0), (32, 0.1), (128, 0.1)):
        ours = layer(LoraLinear, min(rank, place.width), share, torch.float32, place)
        modules: dict[str, Any] = {
            "frozen": ours.base_layer,
            "PEFT": layer(Linear, rank, share, torch.bfloat16, place),
            "PEFT default": layer(Linear, rank, share, torch.float32, place),
        }
        calls = {name: _both(module, x, grad) for name, module in modules.items()}
        for backend in place.backends:
            calls[backend] = _both(ours, x, grad, backend)
        times = median_ms(calls, place)
        serves = chosen(x, ours.base_layer.weight, ours.lora_A["default"].weight)
        own = times[serves]
        yield (
            {"rank": rank, "dropout": share, **{f"{n} ms": t for n, t in times.items()}}
            | {"chosen": serves, "overhead": own / times["frozen"] - 1}
            | {f"{name} / ours": times[name] / own for name in ("PEFT", "PEFT default")}
        )


def _both(module: Any, x: Tensor, grad: Tensor, backend: str | None = None) -> Callable[[], None]:
    """Forward and backward pass; of `backend` None the operation chooses."""
    leaves = x, *module.parameters()

    def call() -> None:
        _clear(leaves)
        module(x).backward(grad)

    def forced() -> None:
        with use_backend(backend):
            call()

    return forced if backend else call


def _clear(leaves: Iterable[Tensor]) -> None:
    """Otherwise the next backward pass would read and rewrite the gradients of the last."""
    for leaf in leaves:
        leaf.grad = None


def products(place: Place) -> Iterator[Row]:
    """Our main product, with its low-rank epilogue, against cuBLAS without one."""
    from netllm_adapt.lora import _triton

    w = draw(place.width, place.width, place=place)
    x = draw(place.rows, place.width, place=place)
    for rank in (16, 64, 128):
        u, v = draw(place.rows, rank, place=place), draw(place.width, rank, place=place)
        v_t = v.t().contiguous()
        calls = {
            "cuBLAS y": lambda: x @ w.t(),
            "ours y": lambda u=u, v=v: _triton.gemm(x, w.t(), u, v.t(), None),
            "cuBLAS dX": lambda: x @ w,
            "ours dX": lambda u=u, v_t=v_t: _triton.gemm(x, w, u, v_t, None),
        }
        times = median_ms(calls, place)
        ratios = {f"ours / cuBLAS {p}": times[f"ours {p}"] / times[f"cuBLAS {p}"] for p in KINDS}
        yield {"rank": rank, **{f"{n} ms": t for n, t in times.items()}, **ratios}


def mixed(place: Place) -> Iterator[Row]:
    """Three adapters in a batch against one adapter of the same rank on as many tokens."""
    x = draw(12, place.rows // 12, place.width, place=place).requires_grad_()
    w = draw(place.width, place.width, place=place)
    grad = draw(*x.shape, place=place)
    ids = torch.arange(3).repeat_interleave(4)
    for rank in (16, 64):
        sides = (rank, place.width), (place.width, rank)
        mats = [
            Adapter(*(draw(*side, place=place).requires_grad_() for side in sides), 1.0)
            for _ in range(3)
        ]
        leaves = [x, *(matrix for m in mats for matrix in (m.a, m.b))]

        def one(m: Adapter = mats[0], leaves: list[Tensor] = leaves) -> None:
            _clear(leaves)
            lora_linear(x, w, None, m.a, m.b, 1.0).backward(grad)

        def three(mats: list[Adapter] = mats, leaves: list[Tensor] = leaves) -> None:
            _clear(leaves)
            lora_linear_mixed(x, w, None, mats, ids).backward(grad)

        times = median_ms({"one": one, "three": three}, place)
        yield (
            {"rank": rank, **{f"{name} ms": value for name, value in times.items()}}
            | {"three / one": times["three"] / times["one"]}
        )


def compiled(place: Place) -> Iterator[Row]:
    """A layer under torch.compile(fullgraph=True), ours and PEFT's, against eager code."""
    x = draw(place.rows, place.width, place=place).requires_grad_()
    grad = draw(place.rows, place.width, place=place)
    layers = {
        "ours": layer(LoraLinear, 32, 0.0, torch.float32, place),
        "PEFT": layer(Linear, 32, 0.0, torch.bfloat16, place),
        "PEFT default": layer(Linear, 32, 0.0, torch.float32, place),
    }
    for name, module in layers.items():
        call = torch.compile(module, fullgraph=name == "ours")
        times = median_ms(
            {"eager": _both(module, x, grad), "compiled": _both(call, x, grad)}, place
        )
        yield {"layer": name, **{f"{way} ms": value for way, value in times.items()}}


def training(place: Place) -> Iterator[Row]:
    """Forward and backward pass of a whole model, 4 rows of 48 steps of 8 tokens."""
    ways = {
        "ours": adapt_throughput.Way("ours"),
        "PEFT": adapt_throughput.Way("PEFT", ours=False),
        "PEFT compiled": adapt_throughput.Way("PEFT compiled", ours=False),
    }
    backbone = pulled(place.backbone)
    calls = {}
    for name, way in ways.items():
        model = adapt_throughput.build(backbone, way).to(place.device)
        if name == "PEFT compiled":
            model.backbone.compile()
        calls[name] = _learn(model, adapt_throughput.rows_of(way).to(place.device))
    times = median_ms(calls, place)
    for name, value in times.items():
        yield {"backbone": backbone, "layers": name, "ms": value, "/ ours": value / times["ours"]}


def _learn(model: Any, batch: Any) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        with library_training():  # as on a GPU anyway
            model(batch).sum().backward()

    return step


def deciding(place: Place) -> Iterator[Row]:
    """One decision of a whole model, adapter merged, window 20 steps x 8 tokens."""
    backbone = pulled(place.backbone)
    model = decision_latency.build(backbone, "bfloat16").to(place.device)
    rows = decision_latency.window_batch(1).to(place.device)

    @torch.inference_mode()
    def encode() -> None:
        model.head.answer(model.hidden(rows), rows.observations)

    stream = decision_latency.decider(model, 1, lean=None)
    times = median_ms({"decision": stream, "re-encoding": encode}, place)
    yield {
        "backbone": backbone,
        **{f"{n} ms": t for n, t in times.items()},
        "re-encoding / decision": times["re-encoding"] / times["decision"],
    }


def pulled(name: str) -> str:
    """The backbone, or where it was not pulled one of its shape with random weights."""
    try:
        load_backbone(name)
    except FileNotFoundError:
        return f"random-{name}"
    return name


def tiles(place: Place) -> Iterator[Row]:
    """The fastest of some tiles for each kernel and rank, against the table's."""
    from netllm_adapt.lora import _triton
    from netllm_adapt.lora._tiles import Tile

    x, w = (draw(side, place.width, place=place) for side in (place.rows, place.width))
    for rank in (16, 32, 128):
        u, v = draw(place.rows, rank, place=place), draw(place.width, rank, place=place)
        v_t = v.t().contiguous()
        calls: dict[str, Callable[[Tile | None], Any]] = {
            "gemm": lambda tile, u=u, v=v: _triton.gemm(x, w.t(), u, v.t(), None, tile=tile),
            "gemm_drops": lambda tile, u=u, v_t=v_t: _triton.gemm(
                x, w, u, v_t, None, 0.1, 7, tile=tile
            ),
            "shrink": lambda tile, v_t=v_t: _triton.shrink(x, v_t, 1.0, 0.0, 0, tile),
            "grad_a": lambda tile, u=u, v_t=v_t: _triton.grad_a(u, x, v_t, 0.0, 0, tile),
            "grads_of_small": lambda tile, u=u, v=v: _triton.grads_of_small(x, v, u, 1.0, tile),
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


SIDES: dict[str, tuple[tuple[int, ...], ...]] = {
    # bm, bn, bk, warps, stages
    "gemm": ((128,), (128, 256), (32, 64), (4, 8), (3, 4)),
    "gemm_drops": ((64, 128), (128,), (32, 64), (4, 8), (3, 4)),
    "shrink": ((16, 32, 64), (0,), (64, 128), (4, 8), (3, 4)),
    "grad_a": ((32, 64, 128), (0,), (64, 128), (4, 8), (3, 4)),
    "grads_of_small": ((256, 512), (32, 64), (0,), (4, 8), (2, 3)),
}


def _search(
    call: Callable[[Any], Any], sides: tuple[tuple[int, ...], ...], place: Place
) -> tuple[dict[tuple[int, ...], float], int]:
    """Milliseconds by tile, and how many tiles do not fit the GPU."""
    from netllm_adapt.lora._tiles import Tile
    from triton.runtime.errors import OutOfResources

    found, misfits = {}, 0
    for sizes in product(*sides):
        tile = Tile(*sizes)
        try:
            found[sizes] = median_ms({"it": lambda tile=tile: call(tile)}, place)["it"]
        except OutOfResources:
            misfits += 1
    return found, misfits


PARTS: dict[str, Callable[[Place], Iterator[Row]]] = {
    "correctness": correctness,
    "operation": operation,
    "products": products,
    "mixed": mixed,
    "training": training,
    "deciding": deciding,
    "compiled": compiled,
    "tiles": tiles,
}
USUAL = [name for name in PARTS if name != "tiles"]
GPU_ALONE = "products", "tiles"
"""They launch Triton kernels themselves."""


def goals(parts: dict[str, list[Row]]) -> Iterator[tuple[str, float, bool]]:
    """What was to be reached, the worst figure of those measured, and whether it is enough."""

    def figures(part: str, column: str, *, dropout: bool = False, **ranks: Any) -> list[float]:
        low, high = ranks.get("ranks", (0, 128))
        return [
            row[column]
            for row in parts.get(part, ())
            if low <= row["rank"] <= high and bool(row.get("dropout")) == dropout
        ]

    least = {
        "PEFT's time / ours, without dropout, at least 1.33": (
            1.33, figures("operation", "PEFT / ours"),
        ),
        "PEFT's time / ours, with dropout, at least 1.45": (
            1.45, figures("operation", "PEFT / ours", dropout=True),
        ),
        "PEFT's default / ours, at least 1.9": (
            1.9, figures("operation", "PEFT default / ours"),
        ),
    }  # fmt: skip
    most = {
        "overhead over the frozen layer, rank up to 32, at most 0.12": (
            0.12, figures("operation", "overhead", ranks=(0, 32)),
        ),
        "overhead over the frozen layer, rank 128, at most 0.16": (
            0.16, figures("operation", "overhead", ranks=(128, 128)),
        ),
        "our product / cuBLAS, rank 16, at most 1.03": (
            1.03,
            [r for p in KINDS for r in figures("products", f"ours / cuBLAS {p}", ranks=(16, 16))],
        ),
        "three adapters / one, at most 1.05": (1.05, figures("mixed", "three / one")),
        "errors / eager errors in the same dtype, at most 1.25": (
            1.25,
            [
                row[backend] / row["reference"]
                for row in parts.get("correctness", ())
                for backend in ("torch", "triton")
                if backend in row
            ],
        ),
    }  # fmt: skip
    for what, (goal, found) in most.items():
        if found:
            yield what, max(found), max(found) <= goal
    for what, (goal, found) in least.items():
        if found:
            yield what, min(found), min(found) >= goal


def table(rows: list[Row]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"
        return str(value)

    widths = [max(len(key), *(len(cell(row[key])) for row in rows)) for key in rows[0]]
    lines = [rows[0].keys(), *(map(cell, row.values()) for row in rows)]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(x, widths, strict=True)) for x in lines)


def _child(name: str, place: Place, deadline: float, sender: Any) -> None:
    """Send the rows of a part; after the deadline no further one is begun."""
    for row in PARTS[name](place):
        sender.send(row)
        if time.time() > deadline:
            sender.send(None)
            return


def apart(name: str, place: Place, deadline: float) -> tuple[list[Row], str]:
    """The rows that a part gave in a process of its own, and what went wrong, or nothing."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, place, deadline, sender))
    process.start()
    sender.close()  # the child's end alone is left, so that its death ends the loop
    rows: list[Row] = []
    try:
        while receiver.poll(max(0.0, deadline + 30 - time.time())):
            if (row := receiver.recv()) is None:
                process.join()
                return rows, "the time was spent"
            rows.append(row)
        process.kill()
        process.join()
        return rows, "the time was spent"
    except EOFError:
        process.join()
    return rows, f"exit code {process.exitcode}" if process.exitcode else ""


def run(names: list[str], place: Place, document: Row, file: Path | None, budget_s: float) -> None:
    """Measure the parts, and write the file after each."""
    deadline = time.time() + budget_s
    for name in names:
        print(f"\n{name}: {PARTS[name].__doc__}", flush=True)
        wrong = ""
        if place.device == "cpu" and name in GPU_ALONE:
            print("needs a GPU: left out")
            document["left out"].append(name)
        elif time.time() > deadline:
            wrong = "the time was spent"
        else:
            document["parts"][name], wrong = apart(name, place, deadline)
            if document["parts"][name]:
                print(table(document["parts"][name]), flush=True)
        if wrong:
            print(f"failed: {wrong}", flush=True)
            document["failed"][name] = wrong
        document["goals"] = list(goals(document["parts"]))
        if file:
            file.write_text(json.dumps(document, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller layers, fewer repeats")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=USUAL)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=450, help="no part begins after it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing was measured. `--device cpu` rehearses the script without one.")
        raise SystemExit(1)
    place = Place("cuda", 8192, 4096, 20, "smollm2-135m")
    if args.quick:
        place = Place("cuda", 2048, 2048, 5, "smollm2-135m")
    if args.device == "cpu":
        place = Place("cpu", 96, 256, 2, "tiny-random-llama")
    card = torch.cuda.get_device_name() if args.device == "cuda" else "cpu, a rehearsal"
    print(f"{card}, torch {torch.__version__}, {place.rows} rows, width {place.width}, bfloat16")
    document: Row = {"card": card, "torch": torch.__version__, "quick": args.quick}
    document |= {"failed": {}, "left out": [], "parts": {}, "goals": []}
    run(args.only, place, document, args.json, args.budget_s)
    verdicts = document["goals"]
    print(f"\ngoals, of {place.rows} rows and width {place.width}, on {card}:")
    for what, value, met in verdicts:
        print(f"  {what}: {value:.3f}, {'met' if met else 'missed'}")
    print(
        f"{card}: {len(args.only) - len(document['failed']) - len(document['left out'])} of "
        f"{len(args.only)} parts done; failed: {', '.join(document['failed']) or 'none'}; "
        f"{sum(met for *_, met in verdicts)} of {len(verdicts)} goals judged are met"
    )
    raise SystemExit(bool(document["failed"]))


if __name__ == "__main__":
    main()
