"""Turn speech into discrete units: features, k-means over all of them, and each clip as runs of units with times.

    python scripts/encode_units.py --config configs/demo.yaml
    make encode_units CONFIG=configs/demo.yaml SET='units.clusters=200'
    make encode_units CONFIG=configs/demo.yaml SET='units.engine=transformers units.model=models/xlsr-53 units.layer=14'
    python scripts/encode_units.py --config configs/demo.yaml --export-sklearn kmeans.joblib

Reads the clips of segment, with or without transcripts. Features are computed once and kept on disk during the
run, so they never have to fit in memory; k-means saves its state every `execution.checkpoint_every_s` and a killed run
goes on to the same centroids. Writes kmeans.safetensors and kmeans.json, corpus_timestamped.json (one clip a line),
all_units_for_bpe.txt and processed_files.txt (one clip a line, in one order), units.csv (use and level of each unit).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from voxmake.errors import BadInput
from voxmake.run.config import Section
from voxmake.run.digest import file_sha256, tree_digest
from voxmake.run.entry import parser, plan_run, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root, load_config
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    import numpy as np

    from voxmake.run.run import Run
    from voxmake.run.worker import Output
    from voxmake.units.features import FeatureSpec, Grid
    from voxmake.units.frames import FileFrames
    from voxmake.units.kmeans import Settings


class Units(Section):
    """Speech as discrete units: which features, and how they are clustered."""

    engine: Literal["mfcc", "transformers"] = Field(
        "mfcc", description="mfcc: 39 dimensions at 50 Hz; transformers: wav2vec 2.0, XLSR, HuBERT, WavLM from `model`"
    )
    model: str | None = Field(None, description="folder of the transformers model; relative to the project's folder")
    layer: int = Field(14, ge=0, le=96, description="hidden_states[layer] of the model; layers above it are not run")
    window_s: float = Field(20.0, ge=2, description="longer clips go through the model in windows of so many seconds")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="what the model computes in; bfloat16 is for GPUs"
    )
    cmvn: Literal["clip", "none"] = Field(
        "clip", description="mfcc: every dimension to mean 0 and variance 1 over the clip, or as it is"
    )
    cache: Literal["float16", "float32"] = Field("float16", description="how features are kept on disk during the run")
    clusters: int = Field(100, ge=2, le=4096, description="how many units there are")
    kmeans: Literal["lloyd", "minibatch"] = Field(
        "lloyd", description="Lloyd over growing samples, then all frames; or scikit-learn's partial_fit"
    )
    n_init: int = Field(8, ge=1, le=100, description="k-means++ draws; the best goes on")
    max_iterations: int = Field(30, ge=1, description="lloyd: passes over all frames, at most")
    tolerance: float = Field(1e-4, ge=0, lt=1, description="lloyd: a pass that gains less than this part is the last")
    sample_frames: int = Field(
        262144,
        ge=1024,
        description="lloyd: frames in memory, drawn from all clips; 262144 of 1024 dimensions are 1 GiB",
    )
    epochs: int = Field(10, ge=1, description="minibatch: passes over all frames")
    batch_frames: int = Field(10000, ge=256, description="minibatch: frames in one partial_fit")
    phone_labels: str | None = Field(
        None, description="CSV of id,start_s,end_s,phone to score units with; relative to the project's folder"
    )
    boundary_tolerance_s: float = Field(
        0.02, gt=0, le=0.1, description="how near a unit's boundary must be to a phone's, in seconds"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Units:
        if (self.engine == "transformers") != (self.model is not None):
            raise ValueError("model: is for engine: transformers, and that needs it")
        return self

    def features(self) -> FeatureSpec:
        from voxmake.units.features import FeatureSpec

        return FeatureSpec(self.engine, self.cmvn, self.layer, self.window_s, self.precision, self.cache)

    def settings(self, seed: int) -> Settings:
        from voxmake.units.kmeans import Settings

        return Settings(
            self.clusters, self.kmeans, self.n_init, self.max_iterations, self.tolerance, self.sample_frames,
            self.epochs, self.batch_frames, seed,
        )  # fmt: skip


def model_folder(spec: Units) -> str | None:
    return None if spec.model is None else str(PROJECT_ROOT / spec.model)


def outside(config: Any) -> dict[str, str]:
    """The weights of the model, and the phone labels, by content."""
    digests = {}
    if folder := model_folder(config.units):
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        if not files:
            raise BadInput(f"units.model: {folder} is no folder with a model; copy it there first")
        digests["model"] = tree_digest(files, Path(folder), cache=data_root() / ".cache" / "digests.sqlite")
    if config.units.phone_labels:
        path = PROJECT_ROOT / config.units.phone_labels
        if not path.is_file():
            raise BadInput(f"units.phone_labels: {path} is not there; give the file, or take the key out")
        digests["phone_labels"] = file_sha256(path)
    return digests


STAGE = Stage(
    name="encode_units",
    version=1,
    summary="turn speech into discrete units with times",
    sections={"units": Units},
    after=("segment",),
    seeded=True,
    # Where the model and the labels lie is no part of the result; what is in them is.
    result_keys=lambda config: {"units": config.units.model_dump(mode="json", exclude={"model", "phone_labels"})},
    outside=outside,
)

SCRATCH = ".frames"  # features and levels of each clip, for the time of the run
UNIT_COLUMNS = ("unit", "frames", "share", "runs", "mean_run_s", "level_db")


class Extract:
    """Worker: some clips in, their features and levels as raw files out."""

    def __init__(self, spec: dict, model: str | None, batch: int):
        from voxmake.units.features import FeatureSpec

        self.spec, self.folder, self.batch, self.engine = FeatureSpec(**spec), model, batch, None

    def __call__(self, payload: dict, output: Output) -> dict:
        return next(self.many([payload], [output]))

    def many(self, payloads: list[dict], outputs: list[Output]) -> Iterator[dict]:
        """payloads: `path` of a clip and `name` of its files without ending. Yields `frames` of each, and `dims`."""
        import numpy as np

        from voxmake.errors import Failure
        from voxmake.units.features import levels_db, read_16k

        if self.engine is None:
            self.engine = self.spec.load(self.folder, self.batch)
        clips = [read_16k(payload["path"]) for payload in payloads]
        for payload, output, samples, found in zip(payloads, outputs, clips, self.engine.encode(clips), strict=True):
            with np.errstate(over="ignore"):
                kept = found.astype(self.spec.cache)
            if not np.isfinite(kept).all():
                raise Failure(
                    f"{payload['path']}: features pass the range of {self.spec.cache}; "
                    "set units.cache=float32, or units.precision=float32"
                )
            output.write(f"{payload['name']}.frames", kept.tobytes())
            output.write(f"{payload['name']}.levels", levels_db(samples, self.engine.grid).astype(np.float16).tobytes())
            yield {"frames": len(found), "dims": self.engine.dims}


def work(run: Run) -> None:
    from voxmake.units import kmeans
    from voxmake.units.assign import labels_of
    from voxmake.units.corpus import write_corpus
    from voxmake.units.tokeniser import CENTROIDS, FACTS, Tokeniser, centroids_bytes

    spec = run.config.units
    grid = grid_of(spec)
    clips, dims = extract(run, grid)
    frames = open_frames(run, clips, dims)
    if frames.total < spec.clusters:
        raise BadInput(f"{frames.total} frames are too few for {spec.clusters} units; lower units.clusters")
    threads = run.config.execution.workers or len(os.sched_getaffinity(0))
    settings = spec.settings(run.config.seed)
    found = kmeans.fit(frames, settings, threads, checkpoint(run, clips, settings), run.log.info)
    labels = labels_of(frames, found.centroids, threads)

    tokeniser = Tokeniser(spec.features(), outside(run.config).get("model", ""), grid, found.centroids)
    facts = tokeniser.facts()
    run.write_bytes(CENTROIDS, centroids_bytes(found.centroids))
    run.write_json(
        FACTS, facts | {"inertia": [float(f"{value:.7g}") for value in found.inertia], "passes": found.passes}
    )
    ids = [clip["id"] for clip in clips]
    units = dict(zip(ids, split(labels, [clip["frames"] for clip in clips]), strict=True))
    write_corpus(run, clips, units, grid, facts["tokeniser"])
    write_usage(run, clips, units, grid)
    if spec.phone_labels:
        write_phone_scores(run, clips, units, grid)
    run.leave_out(SCRATCH)
    run.publish(rows_out=len(clips))


def grid_of(spec: Units) -> Grid:
    from voxmake.units.features import Mfcc, model_grid

    return Mfcc.grid if spec.engine == "mfcc" else model_grid(str(model_folder(spec)))


def extract(run: Run, grid: Grid) -> tuple[list[dict], int]:
    """Features of every clip into files; the rows of the clips that have any, by id, with `frames`."""
    from voxmake.units.features import RATE_HZ

    spec = run.config.units
    source = run.inputs["segment"]
    rows = sorted(source.rows(), key=lambda row: row["id"])[: run.limit]
    items = []
    for row in rows:
        if float(row["duration_s"]) * RATE_HZ < grid.window + 1:
            run.reject(row["id"], row["source"], "no_frames", f"{row['duration_s']} s")
            continue
        payload = {"path": str(source.path / row["file_name"]), "name": scratch_name(row)}
        items.append(Item(row["id"], payload, cost=float(row["duration_s"]), source=row["source"]))
    # Longest first, as items are handed out, clips of like length share a call of the model.
    batch = 1 if spec.engine == "mfcc" else run.config.execution.batch_size
    args = {"spec": asdict(spec.features()), "model": model_folder(spec), "batch": batch}
    # PyTorch reserves more address space than a useful limit allows.
    on_gpus = spec.engine == "transformers"
    done = run.map(items, Extract, args, Limits(), "clips", at_once=batch, on_gpus=on_gpus)
    dims = next(iter(done.values()))["dims"] if done else 1
    return [row | {"frames": done[row["id"]]["frames"]} for row in rows if row["id"] in done], dims


def scratch_name(row: dict) -> str:
    return f"{SCRATCH}/{Path(row['file_name']).with_suffix('')}"


def open_frames(run: Run, clips: list[dict], dims: int) -> FileFrames:
    from voxmake.units.frames import FileFrames

    paths = [run.path / f"{scratch_name(clip)}.frames" for clip in clips]
    return FileFrames(paths, [clip["frames"] for clip in clips], dims, run.config.units.cache)


def checkpoint(run: Run, clips: list[dict], settings: Settings):
    """The state of k-means in the work folder; bound to the frames' digests, as a retried clip changes them."""
    from voxmake.nets.checkpoint import Checkpoint

    names = [f"{scratch_name(clip)}.frames" for clip in clips]
    text = json.dumps([asdict(settings), [run.digest(name) for name in names]])
    return Checkpoint(
        run.path / "kmeans.state", hashlib.sha256(text.encode()).hexdigest(), run.config.execution.checkpoint_every_s
    )


def split(labels: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    import numpy as np

    return np.split(labels, np.cumsum(lengths)[:-1])


# ---------------------------------------------------------------------------- results


def write_usage(run: Run, clips: list[dict], units: dict[str, np.ndarray], grid: Grid) -> None:
    """units.csv and the numbers of stats.json."""
    import numpy as np

    from voxmake.units.features import RATE_HZ
    from voxmake.units.measure import entropy_bits, runs

    clusters = run.config.units.clusters
    frames, turns, levels = (np.zeros(clusters) for _ in range(3))
    for clip in clips:
        own = units[clip["id"]]
        level_db = np.fromfile(run.path / f"{scratch_name(clip)}.levels", "<f2").astype(np.float64)
        frames += np.bincount(own, minlength=clusters)
        turns += np.bincount(runs(own)[0], minlength=clusters)
        levels += np.bincount(own, level_db, minlength=clusters)
    hop_s = grid.hop / RATE_HZ
    total, seconds = frames.sum(), frames.sum() * hop_s
    run.write_table(
        "units.csv",
        UNIT_COLUMNS,
        (
            [
                unit,
                int(frames[unit]),
                round(frames[unit] / total, 6),
                int(turns[unit]),
                round(frames[unit] / turns[unit] * hop_s, 4) if turns[unit] else None,
                round(levels[unit] / frames[unit], 2) if frames[unit] else None,
            ]
            for unit in range(clusters)
        ),
    )
    entropy = entropy_bits(frames)
    per_s = turns.sum() / seconds
    run.stat("hours", round(seconds / 3600, 6), "h", "speech that became units")
    run.stat("frames", int(total), "frames", "units before runs are joined")
    run.stat("entropy", round(entropy, 4), "bit", "entropy of the units' use over all frames")
    run.stat("entropy_normalised", round(entropy / np.log2(clusters), 4), "1", "the same, 1 if all are used alike")
    run.stat("dead_units", int((frames == 0).sum()), "units", "units that no frame has")
    run.stat("largest_share", round(frames.max() / total, 4), "1", "share of the frames that the most used unit has")
    run.stat("mean_run", round(total / turns.sum(), 4), "frames", "how long a unit lasts")
    run.stat("units_per_second", round(per_s, 3), "1/s", "units after runs are joined")
    run.stat(
        "bitrate",
        round(per_s * np.log2(clusters), 2),
        "bit/s",
        "units a second, after runs are joined, times log2(units)",
    )
    run.stat(
        "bitrate_entropy", round(per_s * entropy_bits(turns), 2), "bit/s", "the same at the entropy of joined units"
    )


def write_phone_scores(run: Run, clips: list[dict], units: dict[str, np.ndarray], grid: Grid) -> None:
    """PNMI and boundary scores against the labels; a label's id is a clip's, or the recording's it was cut from."""
    import numpy as np

    from voxmake.units.features import RATE_HZ
    from voxmake.units.measure import Boundaries, phone_at, pnmi, read_labels, runs

    spec = run.config.units
    labels = read_labels(PROJECT_ROOT / str(spec.phone_labels))
    names = sorted({phone.name for phones in labels.values() for phone in phones})
    number = {name: index for index, name in enumerate(names)}
    joint = np.zeros((len(names), spec.clusters), np.int64)
    boundaries, scored = Boundaries(), 0
    for clip in clips:
        phones = labels.get(clip["id"]) or labels.get(clip.get("recording", ""))
        if not phones:
            continue
        scored += 1
        own = units[clip["id"]]
        # Labels are in the recording's time: a clip begins where it was cut or trimmed.
        begin_s = float(clip.get("start_s") or clip.get("trim_start_s") or 0)
        centres_s = begin_s + np.arange(len(own)) * grid.hop / RATE_HZ + grid.centre_s
        place = phone_at(phones, centres_s)
        classes = np.array([number[phone.name] for phone in phones])
        np.add.at(joint, (classes[place[place >= 0]], own[place >= 0]), 1)
        # Between two frames is between their centres; the clip's own ends are no boundaries.
        starts = runs(own)[1][1:-1]
        found_s = begin_s + (starts - 0.5) * grid.hop / RATE_HZ + grid.centre_s
        true_s = np.array([phone.start_s for phone in phones])
        inside = (true_s > centres_s[0]) & (true_s < centres_s[-1])
        boundaries.add(found_s, true_s[inside], spec.boundary_tolerance_s)
    if not scored:
        raise BadInput(f"units.phone_labels: none of its {len(labels)} ids is a clip or a recording of this run")
    run.stat("labelled_clips", scored, "clips", "clips that phone labels were given for")
    run.stat("pnmi", round(pnmi(joint), 4), "1", "share of the phones' entropy that units tell; more clusters, higher")
    purity = joint.max(axis=0).sum() / joint.sum()
    run.stat("phone_purity", round(float(purity), 4), "1", "frames whose phone is the most frequent one of their unit")
    for name, told in (
        ("precision", "boundaries of units that are near one of phones"),
        ("recall", "boundaries of phones that are near one of units"),
        ("f1", "both together"),
        ("r_value", "both together, too many boundaries punished"),
    ):
        run.stat(f"boundary_{name}", round(float(getattr(boundaries, name)), 4), "1", told)


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument(
        "--export-sklearn",
        type=Path,
        metavar="FILE",
        help="also write the centroids as a scikit-learn KMeans (joblib, a pickle) to this file, outside the run",
    )
    code = run_stage(STAGE, work, flags, argv)
    args = flags.parse_args(argv)
    if code == 0 and args.export_sklearn and not args.dry_run:
        from voxmake.units.tokeniser import export_sklearn

        export_sklearn(args.output or plan_run(STAGE, args, load_config)[0].path, args.export_sklearn)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
