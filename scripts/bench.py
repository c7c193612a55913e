"""Measure speed and memory against the usual way, side by side in one run, as ratios.

    make bench

Each row alternates voxmake with the way it replaces, on the same files, the same cores and to the
same output, and takes the median of the rounds. Read the ratios: seconds depend on the machine.
The table is printed and saved to reports/bench.json with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from voxmake.bench import asr, preprocessing, programme, quality, speech, units
from voxmake.bench.measuring import CORES, fresh
from voxmake.run.stage import PROJECT_ROOT

PARTS = {
    "preprocess": lambda scratch, rounds: preprocessing.speed(scratch, rounds) + preprocessing.memory(scratch),
    "make": lambda scratch, rounds: preprocessing.noop(scratch),
    "segment": speech.silence,
    "diarize": lambda scratch, rounds: speech.speakers(),
    "quality": quality.quality,
    "asr": lambda scratch, rounds: asr.recognition(scratch) + asr.overhead(scratch) + asr.error_rates(rounds),
    "units": lambda scratch, rounds: units.rows(),
    "programme": lambda scratch, rounds: programme.rows(),
}


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--rounds", type=int, default=3, help="how often the ways alternate (default 3)")
    flags.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help="measure one part alone",
    )
    args = flags.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="voxmake-bench-") as folder:
        scratch = Path(folder)
        chosen = [part for name, part in PARTS.items() if not args.only or name in args.only]
        rows = [line for part in chosen for line in part(scratch, args.rounds)]
        fresh(scratch / "work")  # published runs are read-only; the folder must be removable
    print(f"{'what':<46} {'voxmake':>9} {'unit':<8} {'against':<38} {'usual':>8} {'ratio':>7}")
    for line in rows:
        against = line.get("against", f"limit {line.get('limit')}")
        print(
            f"{line['what']:<46} {line['voxmake']:>9} {line['unit']:<8} {against:<38} {line.get('usual', ''):>8} {line.get('ratio', ''):>7}"
        )
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": CORES, "system": platform.platform(), "python": platform.python_version()},
        "rows": rows,
    }
    path = PROJECT_ROOT / "reports" / "bench.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"saved to {path.relative_to(PROJECT_ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
