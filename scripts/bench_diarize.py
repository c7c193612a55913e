"""How well diarize does on real voices: adjusted Rand index on digits, diarization error rate on meetings.

    make bench-diarize DATA=../shared/data

DATA holds two public sets that voxmake has no copy of: `digits_fsdd/audio/{digit}_{speaker}_{n}.wav`
(Jakobovski's free spoken digits) and `meeting_ami/` (excerpts of the AMI corpus with reference.rttm
and reference.uem, as in pyannote.audio's tests). Nothing here is a gate: a wrong count is a finding.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from voxmake.run.stage import PROJECT_ROOT
from voxmake.run.store import remove_tree

FLAGS = ("--set", "execution.progress=none", "--set", "execution.max_rejected_ratio=0.5")


def diarize(recordings: Path, work: Path, *assignments: str) -> Path:
    """Run collect to diarize on a folder; returns the run's folder."""
    config = work / "x.yaml"
    config.write_text(
        f"extends: {PROJECT_ROOT}/configs/base.yaml\nproject: bench\nstages: [diarize]\n"
        f"collect: {{sources: [{{path: '{recordings}', format: folder}}]}}\n",
        encoding="utf-8",
    )
    flags = [*FLAGS, *(word for text in assignments for word in ("--set", text))]
    for stage in ("collect", "preprocess", "segment", "diarize"):
        command = [sys.executable, PROJECT_ROOT / "scripts" / f"{stage}.py", "--config", config, *flags]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"VOXMAKE_DATA": str(work / "data")})
    return (work / "data/projects/bench/diarize").resolve()


def digits(data: Path, work: Path) -> None:
    """Single digits, and three of a speaker joined; the count found and given."""
    import numpy as np
    import soundfile
    from sklearn.metrics import adjusted_rand_score

    groups: dict[str, list[Path]] = {}
    for path in sorted((data / "digits_fsdd/audio").glob("*.wav")):
        groups.setdefault(path.stem.split("_")[1], []).append(path)
    for joined in (1, 3):
        folder = work / f"digits{joined}"
        folder.mkdir()
        for speaker, paths in groups.items():
            for start in range(0, len(paths) - joined + 1, joined):
                parts = [soundfile.read(path)[0] for path in paths[start : start + joined]]
                rate_hz = soundfile.info(paths[start]).samplerate
                soundfile.write(folder / f"{speaker}_{start:03}.wav", np.concatenate(parts), rate_hz)
        for told, count in (("found", None), ("given", len(groups))):
            assignments = ["audio.min_duration_s=0.05", *([f"diarize.speakers={count}"] if count else [])]
            with (diarize(folder, work, *assignments) / "speakers.csv").open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            index = adjusted_rand_score([row["id"].split("_")[0] for row in rows], [row["speaker"] for row in rows])
            speakers = len({row["speaker"] for row in rows})
            print(
                f"digits, {joined} a clip, {len(rows)} clips of {len(groups)} speakers, count {told}: {speakers} speakers, ARI {index:.3f}"
            )


def meetings(data: Path, work: Path) -> None:
    """Half a minute each of four meetings: segments by voice activity, one speaker a segment."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(path: Path) -> dict[str, Annotation]:
        found: dict[str, Annotation] = {}
        for line in path.read_text().splitlines():
            _, name, _, start_s, length_s, _, _, speaker, *_ = line.split()
            found.setdefault(name, Annotation(uri=name))[
                Segment(float(start_s), float(start_s) + float(length_s)), line
            ] = speaker
        return found

    folder = data / "meeting_ami"
    reference = annotation(folder / "reference.rttm")
    scored = {
        line.split()[0]: Segment(*map(float, line.split()[2:]))
        for line in (folder / "reference.uem").read_text().splitlines()
    }
    cuts = [
        "segment.method=vad",
        "segment.min_silence_s=0.2",
        "segment.min_duration_s=0.4",
        "segment.max_duration_s=3",
        "segment.pad_s=0",
    ]
    for told, extra in (
        ("found", []),
        ("given", [f"diarize.speakers={len({s for a in reference.values() for s in a.labels()})}"]),
    ):
        run = diarize(folder, work, *cuts, *extra)
        metric = DiarizationErrorRate()
        for name, truth in sorted(reference.items()):
            path = run / f"rttm/{name}.rttm"
            found = annotation(path)[name] if path.is_file() else Annotation(uri=name)
            rate = metric(truth, found, uem=Timeline([scored[name]]))
            print(
                f"meeting {name}, count {told}: DER {rate:.3f}, {len(found.labels())} speakers of {len(truth.labels())}"
            )
        parts = metric[:]
        shares = ", ".join(
            f"{part} {parts[part] / parts['total']:.3f}" for part in ("confusion", "missed detection", "false alarm")
        )
        print(f"meetings, count {told}: DER {abs(metric):.3f} ({shares})")


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--data", type=Path, required=True, help="folder with digits_fsdd/ and meeting_ami/")
    args = flags.parse_args(argv)
    for name in ("digits_fsdd", "meeting_ami"):
        if not (args.data / name).is_dir():
            print(f"bench-diarize: {args.data / name} is not there; give DATA=<folder that has it>", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="voxmake-bench-") as folder:
        digits(args.data.resolve(), Path(folder))
        meetings(args.data.resolve(), Path(folder))
        remove_tree(Path(folder) / "data")  # published runs are read-only
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
