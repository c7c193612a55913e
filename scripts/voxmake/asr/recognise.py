"""Clips of a dataset to what was heard of them and how it compares: for all of them, or a sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.asr.spec import Validate, chosen_engine, model_digest, model_path
from voxmake.run.stage import data_root
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

CARRIED = ("id", "file_name", "split", "speaker", "language", "duration_s")


class Recognise:
    """Worker: clips in, what was heard out; the model is loaded when the first unknown clip comes."""

    def __init__(
        self, engine: str, model: str | None, beam_size: int, compute_type: str, batch_size: int, loaders: int
    ):
        self.engine = (engine, model, beam_size, compute_type)
        self.batch_size, self.loaders, self.batches = batch_size, loaders, None

    def many(self, payloads: list[dict], outputs: list[Output]) -> Iterator[Any]:
        """payloads: `path` and `language` of each clip, its `text`, and `heard` if that is known. Yields rows."""
        from voxmake.errors import Rejected

        unknown = iter(self._recognise([payload for payload in payloads if payload["heard"] is None]))
        for payload in payloads:
            heard = payload["heard"] or next(unknown)
            yield heard if isinstance(heard, Rejected) else heard | {"similarity": self._similarity(payload, heard)}

    def _recognise(self, payloads: list[dict]) -> Iterator[Any]:
        if not payloads:
            return
        from concurrent.futures import ThreadPoolExecutor

        from voxmake.asr import engines
        from voxmake.asr.batches import Batches
        from voxmake.errors import Rejected

        if self.batches is None:
            self.batches = Batches(engines.load(*self.engine), self.batch_size)
        with ThreadPoolExecutor(self.loaders) as pool:  # clips are read while the model works on those before
            clips = pool.map(_read, (payload["path"] for payload in payloads))
            languages = (payload["language"] for payload in payloads)
            for heard in self.batches.hear(zip(clips, languages, strict=True)):
                yield heard if isinstance(heard, Rejected) else vars(heard).copy()

    def _similarity(self, payload: dict, heard: dict) -> float:
        """For the display; the rows are scored when all is heard."""
        from voxmake.asr.engines import Heard
        from voxmake.asr.scoring import score

        return score(payload["text"], Heard(**heard), 1.0, payload["language"], 0.0).similarity


def _read(path: str) -> Any:
    from voxmake.asr.batches import read_clip
    from voxmake.errors import Rejected

    try:
        return read_clip(Path(path))
    except Rejected as rejection:
        return rejection


def recognise(run: Run, rows: list[dict[str, str]], again: bool = False) -> dict[str, dict]:
    """What was heard of each clip, by id; clips that failed are missing. Whatever was heard before, in any run, is known.

    Args:
        rows: of the metadata.csv of prepare_dataset.
        again: the run has called a worker with these clips before (Run.map).
    """
    from voxmake.asr import engines
    from voxmake.run.cache import Cache
    from voxmake.run.store import read_manifest

    spec = run.config.validation
    identity = engines.identity(chosen_engine(spec), model_digest(spec), spec.beam_size, spec.compute_type)
    run.notes["recogniser"] = identity
    prepared = run.inputs["prepare_dataset"]
    manifest = read_manifest(prepared.path)
    cache = Cache(data_root() / ".cache" / "hypotheses.sqlite", identity)
    keys = {row["id"]: f"{manifest[row['file_name']][1]}:{spoken(row, spec)}" for row in rows}
    known = {key: json.loads(value) for key, value in cache.known(keys.values()).items()}
    items = [
        Item(
            id=row["id"],
            payload={
                "path": str(prepared.path / row["file_name"]),
                "language": spoken(row, spec),
                "text": row["text"],
                "heard": known.get(keys[row["id"]]),
            },
            cost=0.0 if keys[row["id"]] in known else float(row["duration_s"]),
            source=row["file_name"],
        )
        for row in rows
    ]
    if known:
        run.log.info("%d of %d clips were recognised before", sum(item.cost == 0 for item in items), len(items))

    def remember(item_id: str, row: dict) -> None:
        if keys[item_id] not in known:
            value = {name: row[name] for name in ("text", "language", "probability")}
            cache.add({keys[item_id]: json.dumps(value).encode()})

    args, at_once = worker(run)
    # No limits: PyTorch reserves more address space than a useful one allows.
    return run.map(
        items, Recognise, args, Limits(), "clips", at_once=at_once, again=again, on_gpus=True, each=remember,
        shown="similarity",
    )  # fmt: skip


def worker(run: Run) -> tuple[dict[str, Any], int]:
    """What `Recognise` is made with, and how many clips it is handed at once: four batches, so that reading and the
    model overlap."""
    spec, execution = run.config.validation, run.config.execution
    engine, model = chosen_engine(spec), model_path(spec)
    batch_size = 1 if engine == "pocketsphinx" else execution.batch_size  # it takes one clip after the other
    args = {
        "engine": engine, "model": None if model is None else str(model), "beam_size": spec.beam_size,
        "compute_type": spec.compute_type, "batch_size": batch_size, "loaders": execution.loader_workers,
    }  # fmt: skip
    return args, 4 * batch_size


def spoken(row: dict[str, str], spec: Validate) -> str:
    """ISO 639-1 code of the language to recognise; "" if nobody knows."""
    from voxmake.text.normalise import language_code

    return language_code(spec.language or row["language"])


def scored(row: dict[str, str], heard: dict | None, spec: Validate) -> dict[str, Any]:
    """One row of validation.csv."""
    from voxmake.asr.engines import Heard
    from voxmake.asr.report import shard_of
    from voxmake.asr.scoring import score

    told = {column: row[column] for column in CARRIED} | {
        "text": row["text"],
        "shard": shard_of(row["id"], spec.shards),
    }
    if heard is None:
        return told | {"class": "error", "passed": "no"}
    found = Heard(heard["text"], heard["language"], heard["probability"])
    result = score(row["text"], found, float(row["duration_s"]), spoken(row, spec), spec.min_similarity)
    return told | {
        "class": result.kind,
        "passed": "yes" if result.kind == "ok" else "no",
        "similarity": result.similarity,
        "cer": result.cer,
        "wer": result.wer,
        "edge_start_cer": result.edge_start_cer,
        "edge_end_cer": result.edge_end_cer,
        "chars_per_s": result.chars_per_s,
        "heard_language": found.language,
        "language_probability": found.probability,
        "hypothesis": found.text,
        "reference_compared": result.reference,
        "hypothesis_compared": result.hypothesis,
    }
