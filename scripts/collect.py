"""Bring recordings and transcripts from where they are into one audio set.

    python scripts/collect.py --config configs/demo.yaml
    python scripts/collect.py --config configs/base.yaml --input ~/recordings
    make collect CONFIG=configs/demo.yaml
    make doctor CONFIG=configs/demo.yaml     # check the rows, copy nothing

Sources: HF AudioFolder, LJSpeech, Piper, coqui, NeMo JSONL, a Kaldi data folder, a folder of
recordings without transcripts, and Codex-editor notebooks, from a local clone or over GitLab's API.
Originals are read, never changed. Every row that can't be used is named in rejected.csv with its
reason. With `collect.preprocess: true` the preprocess stage's work is done in the same pass.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

import preprocess
from voxmake.audio.spec import AudioSpec
from voxmake.errors import REASONS, BadInput, ConfigError, Rejected
from voxmake.run.config import Section
from voxmake.run.digest import tree_digest
from voxmake.run.entry import parser, plan_run, reporting, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root, load_config
from voxmake.run.work import Item, Limits
from voxmake.sources.model import Listing, Recording, RejectedRow, Source
from voxmake.sources.tree import AUDIO_SUFFIXES

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output


class Collect(Section):
    """Recordings and transcripts from where they are into one audio set."""

    sources: list[Source] = Field(default_factory=list, description="where the recordings are; several are joined")
    preprocess: bool = Field(False, description="do the work of the preprocess stage in the same pass over the data")


def result_keys(config: Any) -> dict:
    """Where the data lies is no part of the result; what is read out of it is."""
    places = {"path", "audio_root", "token_file", "url", "project", "revision"}
    keys: dict[str, Any] = {"sources": [source.model_dump(exclude=places) for source in config.collect.sources]}
    if config.collect.preprocess:
        keys["audio"] = config.audio.model_dump(mode="json")
        keys["preprocess"] = preprocess.STAGE.version
    return keys


def outside(config: Any) -> dict[str, str]:
    """A digest of every source: its files, or the commit that its revision stands for."""
    return {str(number): _source_digest(source) for number, source in enumerate(config.collect.sources)}


def _source_digest(source: Source) -> str:
    from voxmake.sources import commit_of, files_of

    if source.format == "gitlab":
        return commit_of(source, PROJECT_ROOT)
    files = files_of(source, PROJECT_ROOT)
    root = Path(os.path.commonpath([file.parent for file in files] or [PROJECT_ROOT]))
    return tree_digest(files, root, cache=data_root() / ".cache" / "digests.sqlite")


STAGE = Stage(
    name="collect",
    version=1,
    summary="bring recordings and transcripts into one audio set",
    sections={"collect": Collect, "audio": AudioSpec},
    result_keys=result_keys,
    outside=outside,
    input_keys=lambda paths: [f"collect.sources={json.dumps([{'path': str(Path(path).resolve())} for path in paths])}"],
)

COLUMNS = ("file_name", "transcription", *preprocess.CARRIED, "size_bytes", "sha256")


class Fetch:
    """Worker: one recording's bytes into the set, as they are."""

    def __init__(self) -> None:
        from voxmake.audio.probe import sniff
        from voxmake.sources import fetch

        self.fetch, self.sniff = fetch, sniff

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `recording`, `name` of the clip without its ending, `row` to carry on."""
        recording = payload["recording"]
        file_name = f"audio/{payload['name']}{suffix_of(recording)}"
        path = output.path(file_name)
        sha256, size_bytes = self.fetch(recording, path)
        self.sniff(path)
        output.add(file_name, size_bytes, sha256)
        return payload["row"] | {"file_name": file_name, "size_bytes": size_bytes, "sha256": sha256}


class FetchAndStandardise(Fetch):
    """Worker: both stages in one pass; the same bytes as one after the other."""

    def __init__(self, spec: dict):
        super().__init__()
        self.standardise = preprocess.Standardise(spec)

    def __call__(self, payload: dict, output: Output) -> dict:
        path = output.path(f".fetched/{payload['name']}{suffix_of(payload['recording'])}")
        try:
            self.fetch(payload["recording"], path)
            return self.standardise({"path": str(path), "name": payload["name"], "row": payload["row"]}, output)
        finally:
            path.unlink(missing_ok=True)


def suffix_of(recording: Recording) -> str:
    """The ending a collected file keeps: it helps people; voxmake looks at the content."""
    name = recording.path.name if recording.path else recording.remote.path
    suffix = Path(name).suffix.lower()
    return suffix if suffix in AUDIO_SUFFIXES else ""


# Names that Windows can't have, so that a set can be unpacked anywhere.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_HASHED = re.compile(r"-[0-9a-f]{8}$")  # such an id might look like another one's file name


def file_stem(item_id: str) -> str:
    """A file name for an id: the id itself if it is plain, else what is plain of it and a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", unicodedata.normalize("NFKD", item_id)).strip("_-")[:80]
    if plain == item_id and plain.lower() not in _RESERVED and not _HASHED.search(plain):
        return plain
    return f"{plain}-{hashlib.sha256(item_id.encode()).hexdigest()[:8]}".lstrip("-")


def read_listing(config: Any) -> Listing:
    from voxmake.sources import read_sources

    if not config.collect.sources:
        raise ConfigError("collect.sources: is empty; name a folder of recordings, e.g. [{path: data/demo/recordings}]")
    return read_sources(config.collect.sources, PROJECT_ROOT)


def work(run: Run) -> None:
    config = run.config
    listing = read_listing(config)
    for row in listing.rejected:
        run.reject(row.id, row.source, row.reason, row.detail)
    items = [
        Item(
            id=recording.id,
            payload={
                "recording": recording,
                "name": file_stem(recording.id),
                "row": {
                    "transcription": recording.transcription,
                    "id": recording.id,
                    "source": recording.where,
                    "speaker": recording.speaker,
                    "language": recording.language,
                },
            },
            cost=recording.size_bytes or 0,
            source=recording.where,
        )
        for recording in listing.recordings
    ]
    if config.collect.preprocess:
        spec = config.audio
        worker, args, limits = FetchAndStandardise, {"spec": spec.model_dump()}, preprocess.limits(spec)
    else:
        worker, args, limits = Fetch, {}, Limits()
    rows = list(run.map(items, worker, args, limits, "recordings").values())
    if config.collect.preprocess:
        preprocess.write_results(run, rows)
    else:
        run.write_table("metadata.csv", COLUMNS, rows)
        run.stat("bytes", sum(row["size_bytes"] for row in rows), "bytes", "size of all recordings")
    run.write_text("unlisted.txt", "".join(f"{name}\n" for name in listing.unlisted))
    run.stat(
        "unlisted",
        len(listing.unlisted),
        "files",
        "audio files in the sources that no row names; unlisted.txt has them",
    )
    for name, count in sorted(listing.counts.items()):
        run.stat(name, count, "rows", "rows of the sources that are neither recordings nor faults")
    run.publish(rows_out=len(rows))


def doctor(args: argparse.Namespace) -> int:
    """Check every row, and the header of every local file, without copying anything."""
    from voxmake.audio.probe import probe
    from voxmake.run.run import REJECTED, rejected_csv

    config = plan_run(STAGE, args, load_config)[1]
    listing = read_listing(config)
    rejected = list(listing.rejected)
    for recording in listing.recordings:
        if recording.path is not None and recording.start_s is None:
            try:
                probe(recording.path, config.audio)
            except Rejected as fault:
                rejected.append(RejectedRow(recording.id, recording.where, fault.reason, fault.detail))
    for row in rejected:
        print(
            f"{row.source}: {row.id}: {row.reason}{' (' + row.detail + ')' if row.detail else ''}; {REASONS[row.reason]}"
        )
    report = PROJECT_ROOT / "reports" / config.project / REJECTED
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(rejected_csv((row.id, row.source, row.reason, row.detail) for row in rejected), encoding="utf-8")
    sound = len(listing.recordings) + len(listing.rejected) - len(rejected)
    print(f"{sound} rows are sound, {len(rejected)} are not ({report})")
    return BadInput.exit_code if rejected else 0


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument("--doctor", action="store_true", help="check the rows and files of the sources; copy nothing")
    args = flags.parse_args(argv)
    if not args.doctor:
        return run_stage(STAGE, work, flags, argv)
    with reporting("doctor", args.verbose) as ended:
        ended.code = doctor(args)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
