"""Measure a prepared set, rank its suspect clips, and say PASS or FAIL before hours of training go into it.

    python scripts/quality_report.py --config configs/demo.yaml
    python scripts/quality_report.py --config configs/demo.yaml --sample-count 30 --suspect-top 100 --asr-sample 50
    make quality_report CONFIG=configs/demo.yaml SET='quality.gate_min_hours=1'

Reads the run of prepare_dataset, changes nothing in it, and writes quality_report.md and .html,
plots/, clips.csv (every metric of every clip), suspects.tsv (ranked, with reasons), samples.tsv
(clips to listen to), asr_sample.tsv (what recognition hears, if asked) and stats.json. Exit code 1: a gate of the section `quality` says FAIL; all of
that is written nevertheless. docs/quality.md explains every metric, reason and gate.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.asr.spec import Validate, model_facts, recogniser_keys
from voxmake.quality.spec import Quality
from voxmake.run.digest import file_sha256
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output


def models(config: Any) -> dict[str, str]:
    """The DNSMOS models decide its scores, the recogniser what it hears."""
    found = model_facts(config.validation) if config.quality.asr_sample else {}
    if config.quality.dnsmos:
        from voxmake.quality.dnsmos import model_files

        found |= {path.name: file_sha256(path) for path in model_files()}
    return found


def result_keys(config: Any) -> dict:
    keys = {"quality": config.quality.model_dump(mode="json")}
    return keys | (recogniser_keys(config.validation) if config.quality.asr_sample else {})


STAGE = Stage(
    name="quality_report",
    version=2,
    summary="measure the set, rank suspect clips, PASS or FAIL",
    sections={"quality": Quality, "validation": Validate},
    after=("prepare_dataset",),
    seeded=True,
    result_keys=result_keys,
    outside=models,
)

_LIMITS = Limits(cpu_s=600)  # DNSMOS takes a third of a second for each second beyond the ninth
TOLD = ("id", "file_name", "split", "speaker", "text")
_NUMBERS = ("clipping_ratio", "bandwidth_hz", "speaker_distance")  # of prepare_dataset: of the source, of the voice
METRICS = (
    "duration_s", "spoken_s", "chars", "chars_per_s", "rate_z", "rms_db", "level_off_db", "peak_db", "speech_db", "snr_db", "noise_z",
    "silence_ratio", "head_s", "tail_s", "pause_s", "edge_start_db", "edge_end_db", "dc_ratio", "flat_top_ratio",
    "clipping_ratio", "bandwidth_hz", "bandwidth_share", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808",
    "speaker_state", "speaker_distance", "speaker_z", "text_copies", "audio_copies", "near_copies", "text_conflicts",
    "leaks", "asr_similarity", "asr_class", "audio_sha256",
)  # fmt: skip


class Measure:
    """Worker: one clip's statistics, fingerprint and, if asked, DNSMOS."""

    def __init__(self, dnsmos: bool, near_duplicates: bool):
        from voxmake.audio.statistics import clip_statistics, read_clip
        from voxmake.quality.dnsmos import SCORES, Dnsmos
        from voxmake.quality.duplicates import pack
        from voxmake.quality.fingerprint import fingerprint

        self.read_clip, self.clip_statistics, self.fingerprint, self.pack = (
            read_clip,
            clip_statistics,
            fingerprint,
            pack,
        )
        self.dnsmos = Dnsmos() if dnsmos else None
        self.unscored = dict.fromkeys(SCORES)
        self.near_duplicates = near_duplicates

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the clip, `dnsmos`: whether to score it."""
        samples, rate_hz = self.read_clip(Path(payload["path"]))
        row = self.clip_statistics(samples, rate_hz)
        frames, vectors = self.fingerprint(samples, rate_hz) if self.near_duplicates else ([], None)
        row |= {"anchor_frames": frames, "anchor_vectors": "" if vectors is None else self.pack(vectors)}
        return row | (self.dnsmos(samples, rate_hz) if self.dnsmos and payload["dnsmos"] else self.unscored)


def drawn(rows: list[dict], count: int | None, seed: int, purpose: str) -> list[dict]:
    """`count` rows by the seed, as many of each speaker as of the others while they last; all if None."""
    if count is None:
        return list(rows)
    of_speaker: dict[str, list[tuple[str, dict]]] = defaultdict(list)
    for row in rows:
        lot = hashlib.sha256(f"{seed}\0{purpose}\0{row['id']}".encode()).hexdigest()
        of_speaker[row["speaker"]].append((lot, row))
    turns = []
    for lots in of_speaker.values():
        lots.sort(key=lambda pair: pair[0])
        turns += [(turn, lot, row) for turn, (lot, row) in enumerate(lots)]
    return [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])[:count]]


def measure(run: Run) -> list[dict[str, Any]]:
    """What prepare_dataset said of each clip and what is measured here, sorted by id."""
    spec: Quality = run.config.quality
    prepared = run.inputs["prepare_dataset"]
    rows = {row["id"]: row for row in prepared.rows()}
    scored = {row["id"] for row in drawn(list(rows.values()), spec.dnsmos_sample, run.config.seed, "dnsmos")}
    items = [
        Item(
            id=row["id"],
            payload={"path": str(prepared.path / row["file_name"]), "dnsmos": spec.dnsmos and row["id"] in scored},
            cost=float(row["duration_s"]),
            source=row["file_name"],
        )
        for row in rows.values()
    ]
    args = {"dnsmos": spec.dnsmos, "near_duplicates": spec.near_duplicates}
    clips = []
    for item_id, measured in run.map(items, Measure, args, _LIMITS, "clips").items():
        row = rows[item_id]
        numbers = {name: float(row[name]) if row.get(name) else None for name in _NUMBERS}
        text = " ".join(row["text"].split())
        clips.append(
            {name: row[name] for name in TOLD}
            | {"text": text, "chars": len(text), "speaker_state": row.get("speaker_state", "")}
            | numbers
            | measured
        )
    return clips


def listen(run: Run, clips: list[dict[str, Any]]) -> None:
    """Recognise a sample; adds asr_similarity, asr_class and asr_shortfall to each clip: None where it was not drawn."""
    from voxmake.asr.recognise import recognise, scored
    from voxmake.asr.report import Verdict, asr_sample, failed_shards

    for clip in clips:
        clip |= dict.fromkeys(("asr_similarity", "asr_class", "asr_shortfall"))
    count, spec = run.config.quality.asr_sample, run.config.validation
    if count is None:
        return
    chosen = {clip["id"]: clip for clip in drawn(clips, count, run.config.seed, "asr") if clip["text"]}
    rows = sorted((r for r in run.inputs["prepare_dataset"].rows() if r["id"] in chosen), key=lambda row: row["id"])
    heard = recognise(run, rows, again=True)
    table = [scored(row, heard.get(row["id"]), spec) for row in rows]
    for row in table:
        clip = chosen[row["id"]]
        clip["asr_class"] = row["class"]
        if row["class"] != "error":
            clip["asr_similarity"] = row["similarity"]
            clip["asr_shortfall"] = round(spec.min_similarity - row["similarity"], 6)
    run.write_text("asr_sample.tsv", asr_sample(table))
    for name, *condition in Verdict.of(table, spec, sampled=True).checks(failed_shards(table)):
        run.check(f"asr_{name}", *condition)


def gate(run: Run, clips: list[dict[str, Any]], groups: dict[str, list[list[int]]], suspects: int) -> None:
    """Every condition of the section `quality` that is not null."""
    import numpy as np

    from voxmake.quality.duplicates import surplus

    spec: Quality = run.config.quality
    count = len(clips)
    copies = surplus(groups["near"]) + surplus(groups["audio"], beside=groups["near"])

    def percentile(metric: str, percent: float) -> float:
        values = [clip[metric] for clip in clips if clip[metric] is not None]
        return round(float(np.percentile(values, percent)), 3) if values else 0.0

    seconds = np.array([clip["duration_s"] for clip in clips])
    alike = max((seconds >= 0.99 * seconds.max()).sum(), (seconds <= 1.01 * seconds.min()).sum()) - 1
    for name, value, relation, limit in (
        ("text_p95_chars", percentile("chars", 95), "<", spec.gate_text_p95_chars),
        ("duplicate_text_ratio", round(surplus(groups["text"]) / count, 6), "<", spec.gate_duplicate_text_ratio),
        ("duplicate_audio_ratio", round(copies / count, 6), "<=", spec.gate_duplicate_audio_ratio),
        (
            "leaked_clips",
            sum(clip["leaks"] > 0 and clip["split"] != "train" for clip in clips),
            "<=",
            spec.gate_leaked_clips,
        ),
        ("duration_spike_ratio", round(int(alike) / count, 6), "<=", spec.gate_duration_spike_ratio),
        ("suspect_ratio", round(suspects / count, 6), "<=", spec.gate_suspect_ratio),
        ("dnsmos_median", percentile("dnsmos_ovrl", 50), ">=", spec.gate_dnsmos_median),
        ("bandwidth_median_hz", percentile("bandwidth_hz", 50), ">=", spec.gate_bandwidth_median_hz),
        ("hours", round(float(seconds.sum()) / 3600, 6), ">=", spec.gate_min_hours),
    ):
        if limit is not None:
            run.check(name, value, relation, limit)


def work(run: Run) -> None:
    from voxmake.audio.statistics import read_clip
    from voxmake.quality.duplicates import add_duplicates
    from voxmake.quality.fingerprint import spectrogram
    from voxmake.quality.page import contents, coverage, render
    from voxmake.quality.plots import draw
    from voxmake.quality.rules import add_relative, judge

    spec: Quality = run.config.quality
    prepared = run.inputs["prepare_dataset"]
    clips = measure(run)
    run.log.info("looking for duplicates")
    groups = add_duplicates(
        clips,
        lambda index: spectrogram(*read_clip(prepared.path / clips[index]["file_name"])),
        spec.near_duplicate_correlation if spec.near_duplicates else None,
    )
    add_relative(clips)
    listen(run, clips)
    suspects = judge(clips, spec)
    gate(run, clips, groups, len(suspects))

    run.write_table("clips.csv", (*TOLD, "score", "reasons", *METRICS), joined(clips))
    tell(run, "suspects.tsv", ("rank", "score", *TOLD, "reasons", *METRICS), suspects[: spec.suspect_top])
    samples = drawn(clips, spec.sample_count, run.config.seed, "sample")
    tell(run, "samples.tsv", ("rank", *TOLD, "duration_s", "score", "reasons"), samples)
    run.write_table("characters.csv", ("character", "name", "times", "clips", "in_train"), coverage(clips))
    plots = draw(clips, spec)
    for name, (png, _) in plots.items():
        run.write_bytes(f"plots/{name}.png", png)
    values = contents(f"prepare_dataset/{prepared.hash12}", clips, suspects, run.checks, groups, spec)
    values["plots"] = [{"name": name, "svg": svg} for name, (_, svg) in plots.items()]
    run.write_text("quality_report.html", render(values, "page.html.j2"))
    run.write_text("quality_report.md", render(values, "page.md.j2"))
    write_stats(run, clips, suspects)
    run.publish(rows_out=len(clips))


def joined(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [clip | {"reasons": ";".join(clip["reasons"])} for clip in clips]


def tell(run: Run, name: str, columns: tuple[str, ...], clips: list[dict[str, Any]]) -> None:
    """A table for people: tabs between the cells, none in them, and no cell that a spreadsheet would run."""
    lines = ["\t".join(columns)]
    for rank, clip in enumerate(joined(clips), start=1):
        row = clip | {
            "rank": rank,
            "text": f"'{clip['text']}" if clip["text"].startswith(("=", "+", "@")) else clip["text"],
        }
        lines.append("\t".join("" if row[column] is None else str(row[column]) for column in columns))
    run.write_text(name, "\n".join(lines) + "\n")


def write_stats(run: Run, clips: list[dict[str, Any]], suspects: list[dict[str, Any]]) -> None:
    import numpy as np

    from voxmake.quality.page import coverage
    from voxmake.quality.rules import RULES

    run.stat("hours", round(sum(clip["duration_s"] for clip in clips) / 3600, 6), "h", "audio in all")
    run.stat("suspects", len(suspects), "clips", "clips that break at least one rule")
    for metric, unit, description in (
        ("duration_s", "s", "length of a clip"),
        ("chars", "characters", "length of a text"),
        ("chars_per_s", "characters/s", "text over the time that is not silence"),
        ("rms_db", "dBFS", "RMS level"),
        ("snr_db", "dB", "speech level over noise floor"),
        ("silence_ratio", "ratio", "share of a clip that is silence"),
        ("bandwidth_hz", "Hz", "highest frequency within 50 dB of the strongest"),
        ("dnsmos_ovrl", "1 to 5", "DNSMOS P.835 overall"),
    ):
        values = [clip[metric] for clip in clips if clip[metric] is not None]
        for percent in (5, 50, 95) if values else ():
            value = round(float(np.percentile(values, percent)), 3)
            run.stat(f"{metric}_p{percent:02}", value, unit, f"{description}: {percent} % of the clips lie below")
    counts = Counter(code for clip in suspects for code in clip["reasons"])
    for rule in RULES:
        run.stat(f"reason_{rule.code}", counts[rule.code], "clips", rule.meaning)
    found = coverage(clips)
    run.stat("characters", len(found), "characters", "different characters in the texts")
    untrained = sum(not in_train for *_, in_train in found)
    run.stat("characters_untrained", untrained, "characters", "that no text of the training split holds")


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    for flag, key, told in (
        ("--sample-count", "sample_count", "clips in samples.tsv"),
        ("--suspect-top", "suspect_top", "rows of suspects.tsv"),
        ("--asr-sample", "asr_sample", "clips to recognise and compare with their texts"),
    ):
        # Short for --set: what a flag decides enters the run's hash like any other key.
        flags.add_argument(
            flag, dest="assignments", action="append", type=f"quality.{key}={{}}".format, metavar="N",
            help=f"{told}; short for --set quality.{key}=N",
        )  # fmt: skip
    return run_stage(STAGE, work, flags, argv)


if __name__ == "__main__":
    raise SystemExit(main())
