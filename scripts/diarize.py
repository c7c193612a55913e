"""Find out who speaks in each clip, across all recordings.

    python scripts/diarize.py --config configs/demo.yaml
    make diarize CONFIG=configs/demo.yaml SET='diarize.speakers=4'
    make diarize CONFIG=configs/demo.yaml SET='review.corrections=corrections.csv'

Reads the clips of segment. Writes speakers.csv (speaker, how sure, distances), speaker_ids.json,
embeddings.safetensors, a listening sample of each speaker with its most central and most doubtful
clips, and RTTM for recordings that were cut. A reviewed corrections.csv (rename, merge, split, move)
is applied on top; embeddings are remembered, so nothing is computed twice.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from voxmake import review
from voxmake.run.config import Section
from voxmake.run.digest import folder_digest
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    import numpy as np

    from voxmake.run.run import Run
    from voxmake.run.worker import Output
    from voxmake.speakers.assign import Speakers
    from voxmake.speakers.cluster import Clustering


class Diarize(Section):
    """Who speaks in each clip."""

    engine: Literal["resemblyzer", "transformers", "pyannote"] = Field(
        "resemblyzer", description="speaker encoder; transformers: any x-vector model (WavLM …) from `model`"
    )
    model: str | None = Field(None, description="folder of that model; relative to the project's folder")
    clustering: Literal["agglomerative", "kmeans", "hdbscan"] = Field(
        "agglomerative", description="average linkage on cosine; hdbscan leaves noise without a speaker"
    )
    speakers: int | None = Field(None, ge=1, description="how many speakers there are; null: find out")
    min_speakers: int | None = Field(None, ge=1, description="at least so many; null: 1")
    max_speakers: int | None = Field(None, ge=1, description="at most so many; null: no bound")
    min_clips: int = Field(5, ge=2, description="clips a speaker should have: smaller groups join a near one")
    same_speaker_distance: float | None = Field(
        None, gt=0, lt=2, description="mean cosine distance below which groups are one voice; null: the engine's"
    )
    uncertain_distance: float | None = Field(
        None, gt=0, lt=2, description="cosine distance to the speaker's centroid where doubt begins; null: the engine's"
    )
    outlier_distance: float | None = Field(
        None, gt=0, lt=2, description="distance above which a clip is likely another voice; null: the engine's"
    )
    sample_clips: int = Field(5, ge=1, le=50, description="clips of each kind in a speaker's listening samples")

    @model_validator(mode="after")
    def _consistent(self) -> Diarize:
        if (self.engine == "resemblyzer") != (self.model is None):
            raise ValueError("model: is for engine: transformers or pyannote, and these need it")
        if self.speakers is not None and (self.min_speakers is not None or self.max_speakers is not None):
            raise ValueError("speakers: is the exact count; take min_speakers and max_speakers out")
        if self.min_speakers and self.max_speakers and self.min_speakers > self.max_speakers:
            raise ValueError("min_speakers is larger than max_speakers")
        return self


def model_folder(spec: Diarize) -> str | None:
    return None if spec.model is None else str(PROJECT_ROOT / spec.model)


def outside(config: Any) -> dict[str, str]:
    """Corrections, and the weights of a model that is a folder."""
    return review.digest(config) | folder_digest(config.diarize.model)


STAGE = Stage(
    name="diarize",
    version=1,
    summary="find out who speaks in each clip",
    sections={"diarize": Diarize, "review": review.Review},
    after=("segment",),
    seeded=True,  # k-means
    # Where the model and the corrections lie is no part of the result; what is in them is.
    result_keys=lambda config: {"diarize": config.diarize.model_dump(mode="json", exclude={"model"})},
    outside=outside,
)

COLUMNS = ("id", "file_name", "speaker", "state", "distance", "nearest", "nearest_distance", "reviewed")


class Embed:
    """Worker: one clip in, its speaker embedding out."""

    def __init__(self, engine: str, model: str | None):
        self.engine, self.model, self.embedder = engine, model, None

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the clip, or `vector` if it is known. Returns `vector`, float32 in base64."""
        if payload["vector"] is not None:
            return {"vector": payload["vector"]}
        import soundfile
        import soxr

        from voxmake.speakers import embed

        if self.embedder is None:  # not loaded where everything is known
            self.embedder = embed.load(self.engine, self.model)
        samples, rate_hz = soundfile.read(payload["path"], dtype="float32")
        if rate_hz != embed.RATE_HZ:
            samples = soxr.resample(samples, rate_hz, embed.RATE_HZ)
        return {"vector": base64.b64encode(self.embedder.embed(samples).tobytes()).decode()}


def work(run: Run) -> None:
    from voxmake.speakers.assign import correct, measure, name_clusters
    from voxmake.speakers.cluster import cluster

    spec = run.config.diarize
    rows = {row["id"]: row for row in run.inputs["segment"].rows()}
    vectors = embed_all(run, rows)
    ids = list(vectors)
    matrix = stack(vectors)
    bounds = distances(spec)
    fewest, most = spec.speakers or spec.min_speakers, spec.speakers or spec.max_speakers
    found = cluster(matrix, spec.clustering, bounds.same_speaker, fewest, most, spec.min_clips, run.config.seed)
    speakers = name_clusters(ids, matrix, found.labels)
    correct(speakers, review.read_corrections(run.config))
    measure(speakers, bounds)
    for item in speakers.unknown:
        run.log.warning("corrections: no clip %s in this run", item)

    write_embeddings(run, ids, matrix)
    table = [
        {
            "id": clip.id,
            "file_name": rows[clip.id]["file_name"],
            "speaker": clip.name,
            "state": clip.state,
            "distance": clip.distance,
            "nearest": clip.nearest,
            "nearest_distance": clip.nearest_distance,
            "reviewed": "yes" if clip.reviewed else "",
        }
        for clip in speakers.clips
    ]
    run.write_table("speakers.csv", COLUMNS, table)
    run.write_json("speaker_ids.json", {row["file_name"]: row["speaker"] for row in table if row["speaker"]})
    write_samples(run, rows, speakers)
    write_rttm(run, rows, speakers)
    write_stats(run, speakers, found)
    run.publish(rows_out=len(ids))


def distances(spec: Diarize):
    """The engine's own distances, where the config says no other."""
    from voxmake.speakers.embed import DISTANCES, Distances

    own = DISTANCES[spec.engine]
    return Distances(
        spec.same_speaker_distance or own.same_speaker,
        spec.uncertain_distance or own.uncertain,
        spec.outlier_distance or own.outlier,
    )


def embed_all(run: Run, rows: dict[str, dict]) -> dict[str, bytes]:
    """The embedding of every clip as float32 bytes, by id; those of known clips from the cache."""
    from voxmake.run.cache import Cache
    from voxmake.run.store import read_manifest
    from voxmake.speakers import embed

    spec = run.config.diarize
    clips = run.inputs["segment"]
    manifest = read_manifest(clips.path)
    digests = {item: manifest[row["file_name"]][1] for item, row in rows.items()}
    identity = (
        embed.Resemblyzer.identity if spec.engine == "resemblyzer" else f"{spec.engine}-{outside(run.config)['model']}"
    )
    run.notes["model"] = identity
    cache = Cache(data_root() / ".cache" / "embeddings.sqlite", identity)
    known = cache.known(digests.values())
    items = [
        Item(
            id=item,
            payload={
                "path": str(clips.path / row["file_name"]),
                "vector": base64.b64encode(known[digests[item]]).decode() if digests[item] in known else None,
            },
            cost=0.0 if digests[item] in known else float(row["duration_s"]),
            source=row["source"],
        )
        for item, row in rows.items()
    ]
    run.log.info("%d of %d clips were embedded before", sum(item.cost == 0 for item in items), len(items))
    # PyTorch reserves more address space than a useful limit allows.
    made = run.map(items, Embed, {"engine": spec.engine, "model": model_folder(spec)}, Limits(), "clips")
    vectors = {item: base64.b64decode(row["vector"]) for item, row in made.items()}
    cache.add({digests[item]: vector for item, vector in vectors.items() if digests[item] not in known})
    return vectors


def stack(vectors: dict[str, bytes]) -> np.ndarray:
    """Shape (clips, dimensions), float32."""
    import numpy as np

    return np.stack([np.frombuffer(vector, np.float32) for vector in vectors.values()])


def write_embeddings(run: Run, ids: list[str], matrix: np.ndarray) -> None:
    """embeddings.safetensors: `embeddings` [N, D]; the clips' ids, in its order, are in the metadata."""
    from safetensors.numpy import save

    run.write_bytes(
        "embeddings.safetensors", save({"embeddings": matrix}, {"ids": json.dumps(ids, ensure_ascii=False)})
    )


def write_samples(run: Run, rows: dict[str, dict], speakers: Speakers) -> None:
    """cluster_samples/: for each speaker its most central clips in one file, and single clips to judge by."""
    import numpy as np
    import soundfile

    clips = run.inputs["segment"]
    described = {}
    for name in speakers.names():
        members = sorted(
            (speakers.clips[index] for index in speakers.of(name)), key=lambda clip: (clip.distance, clip.id)
        )
        wanted = run.config.diarize.sample_clips
        central, rest = members[:wanted], members[wanted:]
        doubtful = sorted(
            rest, key=lambda clip: (clip.state == "definite", (clip.nearest_distance or 2) - clip.distance)
        )
        folder = f"cluster_samples/{_plain(name)}"
        samples = []
        for role, chosen in (("central", central), ("doubtful", doubtful[:wanted])):
            for number, clip in enumerate(chosen, start=1):
                source = clips.path / rows[clip.id]["file_name"]
                file = f"{folder}/{role}_{number:02}{source.suffix}"
                run.write_bytes(file, source.read_bytes())
                samples.append({"id": clip.id, "file": file, "role": role})
        parts, rate_hz = [], 0
        for clip in central:
            part, rate_hz = soundfile.read(clips.path / rows[clip.id]["file_name"], dtype="int16")
            parts += [part, np.zeros(rate_hz // 2, np.int16)]
        data = io.BytesIO()
        soundfile.write(data, np.concatenate(parts), rate_hz, format="WAV", subtype="PCM_16")
        run.write_bytes(f"{folder}_sample.wav", data.getvalue())
        seconds = sum(float(rows[clip.id]["duration_s"]) for clip in members)
        described[name] = {"clips": len(members), "seconds": round(seconds, 3), "samples": samples}
    run.write_json("speakers.json", described)


def _plain(name: str) -> str:
    """A folder name for a speaker's name, which people may have typed."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def write_rttm(run: Run, rows: dict[str, dict], speakers: Speakers) -> None:
    """rttm/<recording>.rttm: NIST's format, times in the original, for recordings that were cut."""
    turns: dict[str, list[tuple[float, float, str]]] = {}
    for clip in speakers.clips:
        row = rows[clip.id]
        if clip.name and row.get("recording", clip.id) != clip.id:
            start_s = float(row["start_s"])
            turns.setdefault(row["recording"], []).append((start_s, float(row["end_s"]) - start_s, clip.name))
    for recording, found in turns.items():
        name = _plain(recording)
        lines = [
            f"SPEAKER {name} 1 {start_s:.3f} {length_s:.3f} <NA> <NA> {_plain(speaker)} <NA> <NA>\n"
            for start_s, length_s, speaker in sorted(found)
        ]
        run.write_text(f"rttm/{name}.rttm", "".join(lines))


def write_stats(run: Run, speakers: Speakers, found: Clustering) -> None:
    run.stat("speakers", len(speakers.names()), "speakers", "voices that were told apart, after corrections")
    run.stat("count_chosen_by", found.chosen_by, "", "how the number of speakers came about")
    run.stat("silhouette", found.silhouette, "1", "how well speakers stand apart, -1 to 1; none for a single one")
    for state, told in (
        ("definite", "clips that are near their speaker"),
        ("uncertain", "clips far from their speaker, or nearer to another: listen to them"),
        ("outlier", "clips so far from their speaker that it is likely another voice"),
        ("noise", "clips without a speaker"),
    ):
        run.stat(state, sum(clip.state == state for clip in speakers.clips), "clips", told)


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
