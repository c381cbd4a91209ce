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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _gpu.layers import compiled, correctness, mixed, operation, products
from _gpu.models import deciding, training
from _gpu.report import goals, table
from _gpu.tiles import tiles
from _gpu.timing import Place, Row

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
