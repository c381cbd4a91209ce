"""How long the published head movement takes from the zip to windows, every line checked.

python benchmarks/vp_data.py [--quick] [--data DIR] [--json FILE]

Needs the real data (`--data` or NETLLM_DATA); without it, it says that there is nothing to measure.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from netllm_sims.vp import setting

SETTINGS = {"Jin2022": "default", "Wu2017": "unseen-dataset"}


def read_s(name: str, data: Path | None) -> tuple[float, int]:
    """CPU seconds until all windows of a setting are cut, and how many there are."""
    begun = time.process_time()
    place = setting(name, data=data)
    windows = sum(len(clip) for part in place.parts for clip in place.clips(part))
    return time.process_time() - begun, windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once, not three times")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {}
    if setting(SETTINGS["Jin2022"], data=args.data).synthetic:
        print("No real data, so there is nothing to measure; see --data.")
        return
    for dataset, name in SETTINGS.items():
        runs = [read_s(name, args.data) for _ in range(1 if args.quick else 3)]
        seconds, windows = min(runs)
        results[dataset] = {"cpu_s": seconds, "windows": windows}
        print(f"{dataset}: {windows} windows in {seconds:.2f} s CPU")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"the whole of Jin2022 takes {results['Jin2022']['cpu_s']:.2f} s CPU")


if __name__ == "__main__":
    main()
