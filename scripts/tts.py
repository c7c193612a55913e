"""Speak the scripts that passed their audit, and listen to every clip before it counts.

    python scripts/tts.py --config configs/demo.yaml
    make tts CONFIG=configs/demo.yaml SET='tts.file_format=mp3 tts.target_lufs=-18'

Reads the run of audit. A take is heard by the recogniser of the section `validation` and compared with its script;
one that fails is spoken again with another seed. Writes audio/<dj>/<intros …>/<artist-song>.wav and metadata.csv;
a script of which no take is good goes to rejected.csv and to failures.json, and gets no file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.asr.spec import Validate, chosen_engine, model_digest, model_path
from voxmake.errors import BadInput, Rejected
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root
from voxmake.run.work import Item, Limits
from voxmake.tts.spec import Tts

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output

VERSION = 1
_LISTENER = ("engine", "language", "beam_size", "compute_type")  # keys of `validation` that decide what is heard
_HOW = {"model", "lexicon"}  # their content counts, not where they lie
_FOLDERS = {"intro": "intros", "outro": "outros", "time": "time", "weather": "weather"}


def outside(config: Any) -> dict[str, str]:
    """The content of the voice, the lexicon and the recogniser's model."""
    from voxmake.writing.material import digest

    spec, found = config.tts, {}
    cache = data_root() / ".cache" / "digests.sqlite"
    if spec.model is not None:
        found["voice"] = digest(PROJECT_ROOT / spec.model, cache)
        if (beside := PROJECT_ROOT / f"{spec.model}.json").is_file():
            found["voice's config"] = digest(beside)
    if spec.lexicon is not None:
        found["lexicon"] = digest(PROJECT_ROOT / spec.lexicon)
    recogniser = model_digest(config.validation)
    return found | ({"recogniser": recogniser} if recogniser else {})


def result_keys(config: Any) -> dict:
    listener = {key: getattr(config.validation, key) for key in _LISTENER}
    return {
        "tts": config.tts.model_dump(mode="json", exclude=_HOW),
        "validation": listener | {"engine": chosen_engine(config.validation)},
    }


STAGE = Stage(
    name="tts",
    version=VERSION,
    summary="speak the scripts that passed, and check every clip by recognition",
    sections={"tts": Tts, "validation": Validate},
    after=("audit",),
    seeded=True,
    result_keys=result_keys,
    outside=outside,
)

COLUMNS = (
    "file_name", "transcription", "id", "dj", "type", "artist", "title", "duration_s", "sample_rate_hz", "loudness_lufs",
    "true_peak_db", "take", "seed", "similarity", "wer", "hypothesis", "engine", "voice", "watermark", "recogniser", "key",
)  # fmt: skip


class Speak:
    """Worker: a script in, one take of it out, as raw samples below takes/."""

    def __init__(self, spec: dict, lexicon: dict[str, str]):
        from voxmake.tts import engine

        self.spec, self.lexicon = spec, lexicon
        self.voice = engine.load(spec["engine"], spec["model"], spec["speed"])

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: text, language, voice, seed, take, name. Row: what Listen and Finish need, or `error`."""
        import numpy as np

        from voxmake.tts import check, pieces

        said = pieces.spoken(payload["text"], payload["language"], self.lexicon)
        self.voice.begin(payload["voice"], payload["seed"], payload["take"])
        rate_hz, spoken, abrupt = self.voice.rate_hz, [], False
        for piece in pieces.cut(said, self.spec["max_chunk_chars"]):
            try:
                samples = self.voice.speak(piece.text)
            except Rejected as rejection:
                return {"error": rejection.detail}
            if not np.isfinite(samples).all():
                return {"error": "the engine's samples are not finite"}
            abrupt = abrupt or check.ends_abruptly(samples, rate_hz)
            spoken.append((piece, pieces.trimmed(samples, rate_hz)))
        clip = pieces.join(spoken, rate_hz, self.spec["gap_s"], self.spec["crossfade_s"])
        if not clip.any():
            return {"error": "nothing but silence"}
        output.write(payload["name"], clip.astype("<f4").tobytes())
        return {"error": "", "rate_hz": rate_hz, "abrupt": abrupt, "watermark": self.voice.watermark}


class Listen:
    """Worker: takes in, what is wrong with them out."""

    def __init__(self, recogniser: str, model: str | None, beam_size: int, compute_type: str, spec: dict):
        from voxmake.asr import engines
        from voxmake.asr.batches import Batches
        from voxmake.tts.check import tolerance

        self.batches = Batches(engines.load(recogniser, model, beam_size, compute_type), 1)
        self.limits = tolerance(Tts(**spec), recogniser)

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: path, rate_hz, abrupt, text, language. Row: faults, similarity, wer, hypothesis."""
        from voxmake.tts import check

        samples, rate_hz = _samples(payload["path"]), payload["rate_hz"]
        [heard] = self.batches.hear([(check.listenable(samples, rate_hz), payload["language"])])
        if isinstance(heard, Rejected):
            raise heard
        wrong, score = check.faults(
            payload["text"], heard, len(samples) / rate_hz, payload["abrupt"], payload["language"], self.limits
        )
        return {"faults": wrong, "similarity": score.similarity, "wer": score.wer, "hypothesis": heard.text}


class Finish:
    """Worker: a good take in, its file out; or the file of an earlier run."""

    def __init__(self, spec: dict):
        self.spec = spec

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: path, rate_hz, tags, name; or `earlier`, a file, with its `row`."""
        from voxmake.audio import level, master

        if "earlier" in payload:
            data = Path(payload["earlier"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != payload["sha256"]:
                raise Rejected("unreadable", f"{payload['earlier']} is not what its manifest says")
            output.write(payload["name"], data)
            return payload["row"]
        samples, rate_hz = _samples(payload["path"]), payload["rate_hz"]
        clip = master.master(samples, rate_hz, self.spec["target_lufs"], self.spec["max_true_peak_db"])
        kind = self.spec["file_format"]
        output.write(payload["name"], master.encode(clip, rate_hz, kind, self.spec["bitrate_kbps"], payload["tags"]))
        return {
            "duration_s": round(len(clip) / rate_hz, 6),
            "sample_rate_hz": rate_hz,
            "loudness_lufs": round(level.loudness_lufs(clip, rate_hz), 2),
            "true_peak_db": round(level.true_peak_db(clip), 2),
        }


def _samples(path: str) -> Any:
    import numpy as np

    return np.frombuffer(Path(path).read_bytes(), "<f4")


def work(run: Run) -> None:
    from voxmake.asr import engines
    from voxmake.tts.pieces import read_lexicon

    spec = run.config.tts
    scripts = {row["id"]: row for row in run.inputs["audit"].rows() if row["state"] == "passed"}
    if run.limit is not None:
        scripts = dict(sorted(scripts.items())[: run.limit])
    if not scripts:
        raise BadInput(f"{run.inputs['audit'].path}: no script passed; see its summary.json")
    validation = run.config.validation
    recogniser = engines.identity(
        chosen_engine(validation), model_digest(validation), validation.beam_size, validation.compute_type
    )
    lexicon = read_lexicon(PROJECT_ROOT / spec.lexicon if spec.lexicon else None)
    keys = {key: clip_key(row, run.planned.identity) for key, row in scripts.items()}
    earlier = made_before(keys)
    takes: dict[str, list[dict]] = {key: [] for key in scripts}
    for number in range(1, spec.retries + 2):
        todo = {
            key: row
            for key, row in scripts.items()
            if key not in earlier and not any(good(take) for take in takes[key])
        }
        if todo:
            speak(run, todo, number, lexicon, takes)
    chosen = {key: best(some) for key, some in takes.items() if some}
    rows = finish(run, scripts, chosen, earlier, keys)
    table = [
        table_row(scripts[key], row, chosen.get(key), spec)
        | {"key": keys[key]}
        | ({} if key in earlier else {"recogniser": recogniser})
        for key, row in rows.items()
    ]
    failures = [record(scripts[key], takes[key]) for key in scripts if key not in rows]
    for failed in failures:
        run.reject(failed["id"], scripts[failed["id"]]["file_name"], "speech_failed", failed["why"])
    run.take_in(len(rows))
    run.leave_out("takes")
    run.write_table("metadata.csv", COLUMNS, table)
    run.write_json("failures.json", failures)
    tell(run, table, failures)
    run.notes["recogniser"] = recogniser
    run.publish(rows_out=len(rows))


def clip_key(row: dict[str, str], identity: dict) -> str:
    """What decides a clip, apart from the other clips: its script, and all that this stage is made of."""
    script = {key: row[key] for key in ("text", "dj", "type", "artist", "title", "language", "file_name")}
    own = {key: identity[key] for key in ("version", "keys", "outside")}
    return hashlib.sha256(json.dumps([script, own], sort_keys=True).encode()).hexdigest()[:16]


def made_before(keys: dict[str, str]) -> dict[str, dict]:
    """Clips of finished runs that are the same by their key: row, path and sha256, by id."""
    from voxmake.run.run import read_table
    from voxmake.run.store import MANIFEST, read_manifest

    wanted = {key: item for item, key in keys.items()}
    found: dict[str, dict] = {}
    for run in sorted((data_root() / "runs" / "tts").glob("[!.]*")):
        if not (run / MANIFEST).is_file():
            continue
        files = read_manifest(run)
        for row in read_table(run / "metadata.csv"):
            if (item := wanted.get(row["key"])) is not None and (run / row["file_name"]).is_file():
                found[item] = {"row": row, "path": str(run / row["file_name"]), "sha256": files[row["file_name"]][1]}
    return found


def speak(run: Run, todo: dict[str, dict], number: int, lexicon: dict[str, str], takes: dict[str, list[dict]]) -> None:
    """One take of each script, spoken and heard; adds to `takes`. One model at a time: the voice's processes have
    ended before the recogniser's start."""
    from voxmake.tts.engine import seed_of

    spec, validation = run.config.tts, run.config.validation
    items = []
    for key, row in todo.items():
        name = f"takes/{hashlib.sha256(key.encode()).hexdigest()[:16]}@{number}.f32"
        payload = {
            "text": row["text"], "language": row["language"], "voice": spec.voices.get(row["dj"], spec.voice),
            "seed": seed_of(run.config.seed, row["text"], number), "take": number, "name": name,
        }  # fmt: skip
        items.append(Item(f"{key}@{number}", payload, len(row["text"]), row["file_name"]))
    asked = {item.id: item.payload for item in items}
    args = {"spec": spec.model_dump(mode="json"), "lexicon": lexicon}
    spoken = run.map(items, Speak, args, Limits(), "takes", again=True, on_gpus=spec.engine != "espeak")
    listened = [
        Item(
            key,
            {"path": str(run.path / asked[key]["name"]), "text": asked[key]["text"], "language": asked[key]["language"][:2]}
            | {name: row[name] for name in ("rate_hz", "abrupt")},
            len(asked[key]["text"]),
        )
        for key, row in spoken.items()
        if not row["error"]
    ]  # fmt: skip
    model = model_path(validation)
    args = {
        "recogniser": chosen_engine(validation), "model": None if model is None else str(model),
        "beam_size": validation.beam_size, "compute_type": validation.compute_type, "spec": spec.model_dump(mode="json"),
    }  # fmt: skip
    heard = run.map(listened, Listen, args, Limits(), "takes heard", again=True, on_gpus=True, shown="similarity")
    for key in todo:
        told = asked[f"{key}@{number}"]
        take = {"take": number, "seed": told["seed"], "name": told["name"], "voice": told["voice"]}
        row = spoken.get(f"{key}@{number}", {"error": "the engine's process died; see run.log"})
        if not row["error"]:
            row |= heard.get(f"{key}@{number}", {"error": "the recogniser failed; see run.log"})
        takes[key].append(take | row)


def good(take: dict) -> bool:
    return not take["error"] and not take["faults"]


def best(takes: list[dict]) -> dict:
    """The take with the fewest faults; of those the one that was understood best."""
    return min(takes, key=lambda one: (bool(one["error"]), len(one.get("faults", [])), -one.get("similarity", 0)))


def finish(run: Run, scripts: dict, chosen: dict, earlier: dict, keys: dict) -> dict[str, dict]:
    """Level and encode what is good; rows by id."""
    spec, items = run.config.tts, []
    for key, row in scripts.items():
        name = f"audio/{row['dj']}/{_FOLDERS[row['type']]}/{row['name']}.{spec.file_format}"
        if key in earlier:
            kept = earlier[key]
            payload = {"earlier": kept["path"], "sha256": kept["sha256"], "row": kept["row"], "name": name}
        elif good(take := chosen[key]):
            about = f"voxmake: {spec.engine}, seed {take['seed']}, watermark {take['watermark']}; a machine speaks"
            tags = {"title": row["title"] or row["name"], "artist": row["dj"], "album": row["type"], "comment": about}
            payload = {"path": str(run.path / take["name"]), "rate_hz": take["rate_hz"], "tags": tags, "name": name}
        else:
            continue
        items.append(Item(key, payload, len(row["text"]), row["file_name"]))
    if not items:
        return {}
    return run.map(items, Finish, {"spec": spec.model_dump(mode="json")}, Limits(), "clips", again=True)


def table_row(script: dict, row: dict, take: dict | None, spec: Tts) -> dict:
    told = {key: script[key] for key in ("id", "dj", "type", "artist", "title")} | {"transcription": script["text"]}
    if take is not None:
        told |= {key: take[key] for key in ("take", "seed", "similarity", "wer", "hypothesis", "watermark")}
        told |= {"engine": spec.engine, "voice": take["voice"] or ""}
    name = f"audio/{script['dj']}/{_FOLDERS[script['type']]}/{script['name']}.{spec.file_format}"
    return row | told | {"file_name": name}


def record(script: dict, takes: list[dict]) -> dict:
    """One entry of failures.json: why there is no file, and what every take was like."""
    kept = ("take", "seed", "error", "faults", "similarity", "wer", "hypothesis")
    one = best(takes)
    why = one["error"] or " ".join(one["faults"]) or "it could not be levelled or written; see run.log"
    numbers = f", similarity {one['similarity']:g}" if "similarity" in one else ""
    return {
        "id": script["id"],
        "text": script["text"],
        "why": f"{why}{numbers}, {len(takes)} takes",
        "takes": [{key: take[key] for key in kept if key in take} for take in takes],
    }


def tell(run: Run, table: list[dict], failures: list[dict]) -> None:
    similarities = [float(row["similarity"]) for row in table]
    mean = round(sum(similarities) / len(similarities), 6) if similarities else None
    run.stat("similarity_mean", mean, "0 to 1", "mean similarity of script and what was heard")
    run.stat("speech_s", round(sum(float(row["duration_s"]) for row in table), 3), "s", "speech in all clips")
    first = sum(int(row["take"]) == 1 for row in table)
    run.stat("first_take", first, "clips", "clips whose first take was good")
    spoken = sum(int(row["take"]) for row in table) + sum(len(failed["takes"]) for failed in failures)
    run.stat("takes", spoken, "takes", "takes that it took, those of earlier runs included")
    run.log.info("%d clips, similarity %s, %d of them at the first take", len(table), mean, first)


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
