"""Train a Piper voice with piper-tts's own trainer, in its own environment, and export it complete.

    make train_piper CONFIG=configs/demo_voice.yaml          # sets .venv/piper up the first time
    .venv/piper/bin/python scripts/train_piper.py --config configs/demo_voice.yaml
    make train_piper CONFIG=x.yaml SET='train_piper.checkpoint=models/lessac.ckpt train_piper.checkpoint_sha256=…'

Reads the run of prepare_dataset, and of whisper_validate which clips passed (`train_piper.validated`). Begins from
scratch, from the weights of a checkpoint that fit, or goes on with one whole; its shapes are checked before. Killed, the
next run goes on from the last epoch. Writes model/model.onnx and model.onnx.json (Piper, Home Assistant and
sherpa-onnx read them), the best checkpoints, samples.csv with the spoken sentences measured, training_log.json with plots.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import ConfigError, Failure
from voxmake.run.digest import remembered_sha256
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root
from voxmake.vits.preflight import recogniser_key, without_validation
from voxmake.vits.spec import TrainPiper

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.vits.preflight import Data


def result_keys(config: Any) -> dict:
    keys = config.train_piper.model_dump(mode="json", exclude={"checkpoint"})
    return {"train_piper": keys, "recogniser": recogniser_key(config), "seed": config.seed}


def outside(config: Any) -> dict[str, str]:
    spec: TrainPiper = config.train_piper
    if spec.checkpoint is None:
        return {}
    path = PROJECT_ROOT / spec.checkpoint
    if not path.is_file():
        raise ConfigError(f"train_piper.checkpoint: no file {path}; fetch it first, voxmake downloads none")
    digest = remembered_sha256(path, data_root() / ".cache" / "digests.sqlite")
    if digest != spec.checkpoint_sha256:
        raise ConfigError(f"train_piper.checkpoint_sha256: the sha256 of {path} is {digest}, not the pinned one")
    return {"checkpoint": digest}


STAGE = Stage(
    name="train_piper",
    version=1,
    summary="train a Piper voice with Piper's trainer, speak and measure it",
    sections={"train_piper": TrainPiper},
    after=("prepare_dataset", "whisper_validate"),
    without=lambda config: without_validation(config.train_piper),
    environment="piper",
    result_keys=result_keys,
    outside=outside,
)

RATES_HZ = {"small": None, "low": 16000, "medium": 22050, "high": 22050}
PIPER_QUALITY = {"small": "x_low"}  # its name for the smallest
ESPEAK = {"en": "en-us", "zh": "cmn", "nb": "nb", "no": "nb", "pt": "pt", "es": "es"}  # where the code is not the voice
LOSSES = ("loss_g", "mel", "kl", "dur", "gen", "fm", "disc")


def work(run: Run) -> None:
    from voxmake.vits import preflight

    if importlib.util.find_spec("piper") is None:
        raise Failure(
            "piper-tts is not installed here: `make train_piper` runs this in the environment piper; by hand: "
            "python3 docker/setup.py --env piper, then .venv/piper/bin/python scripts/train_piper.py …"
        )
    spec: TrainPiper = run.config.train_piper
    data = preflight.read_dataset(run, spec)
    wanted = RATES_HZ[spec.quality]
    if wanted not in (None, data.rate_hz):
        raise ConfigError(
            f"quality {spec.quality} speaks at {wanted} Hz, the clips have {data.rate_hz} Hz: set audio.sample_rate_hz "
            f"to {wanted}, or train_piper.quality to {'low' if data.rate_hz == 16000 else 'medium'}"
        )
    espeak_voice = spec.espeak_voice or ESPEAK.get(data.language, data.language)
    train, validation = usable(run, data, espeak_voice)
    preflight.check_sizes(data, train, validation, spec.batch_size, "train_piper.batch_size")
    folder = run.path / "training"
    folder.mkdir(exist_ok=True)
    told = train_voice(run, data, train, validation, espeak_voice, folder)
    spoken = publish_voice(run, data, folder, told, espeak_voice)
    measure(run, data, train, spoken, told)
    run.publish(rows_out=len(train) + len(validation))


def phoneme_ids(espeak_voice: str, text: str) -> list[int]:
    """What Piper's trainer and players make of a text."""
    from piper.phoneme_ids import phonemes_to_ids
    from piper.phonemize_espeak import EspeakPhonemizer

    return [number for part in EspeakPhonemizer().phonemize(espeak_voice, text) for number in phonemes_to_ids(part)]


def usable(run: Run, data: Data, espeak_voice: str) -> tuple[list[Any], list[Any]]:
    """Clips to train on and to validate with; the others are rejected, each with its reason."""
    from voxmake.vits.batches import Clip
    from voxmake.vits.preflight import HOP, refuse

    spec = run.config.train_piper
    splits: dict[str, list[Clip]] = {"train": [], "validation": []}
    for row in data.rows:
        samples, ids = data.samples[row["id"]], phoneme_ids(espeak_voice, row["text"])
        if samples < spec.segment_samples:
            refuse(run, row, "shorter_than_segment", f"{samples} samples of {spec.segment_samples}")
        elif len(ids) > samples // HOP:
            refuse(run, row, "text_longer_than_audio", f"{len(ids)} phonemes, {samples // HOP} frames")
        else:
            clip = Clip(
                row["id"], data.path / row["file_name"], row["text"], tuple(ids), samples, int(row["speaker_id"]),
                row["source"], float(row["duration_s"]),
            )  # fmt: skip
            splits[row["split"]].append(clip)
    run.take_in(len(splits["train"]) + len(splits["validation"]))
    return splits["train"], splits["validation"]


def train_voice(
    run: Run, data: Data, train: list[Any], validation: list[Any], espeak_voice: str, folder: Path
) -> dict[str, Any]:
    """Train; returns what training_log.json tells, with the checkpoints that were kept."""
    from voxmake.vits.preflight import say_estimate

    spec, execution = run.config.train_piper, run.config.execution
    if (folder / "told.json").is_file():
        run.log.info("training is done already")
        return json.loads((folder / "told.json").read_text(encoding="utf-8"))
    from voxmake.vits import piper_adapter

    # Piper numbers speakers as they come: the first clips are one of each, in the dataset's order.
    first = {clip.speaker_id: clip for clip in reversed(train)}
    train = [first[number] for number in sorted(first)] + [c for c in train if c is not first[c.speaker_id]]
    names = {int(row["speaker_id"]): row["speaker"] for row in data.rows}
    rows = [
        [
            clip.path.relative_to(data.path).as_posix(),
            *([names[clip.speaker_id]] if data.speakers > 1 else []),
            clip.text,
        ]
        for clip in (*train, *validation)
    ]
    text = io.StringIO()
    csv.writer(text, delimiter="|", lineterminator="\n").writerows(rows)
    (folder / "clips.csv").write_text(text.getvalue(), encoding="utf-8")
    say_estimate(run, train, spec.batch_size, from_scratch=spec.checkpoint is None, piper=True)
    run.notes["device"] = f"cuda:{execution.gpus[0]}" if execution.gpus else "cpu"
    job = piper_adapter.PiperJob(
        folder, folder / "clips.csv", data.path, len(train), data.speakers, data.rate_hz, espeak_voice, run.config.seed,
        spec, None if spec.checkpoint is None else PROJECT_ROOT / spec.checkpoint,
        execution.gpus[0] if execution.gpus else None, execution.workers or len(os.sched_getaffinity(0)), tuple(tuple(phoneme_ids(espeak_voice, text)) for text in data.sentences),
        hearing(data) if spec.evaluate_cer else None,
    )  # fmt: skip
    quiet_lightning()
    told = piper_adapter.fit(job, run.log.info) | {"batch_size": spec.batch_size}
    (folder / "told.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return told


def quiet_lightning() -> None:
    """Advice on data loaders, a banner, notes on old PyTorch functions: all of it is for Piper's authors."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", module="lightning|torch|piper")
    for name in ("lightning.pytorch", "lightning.fabric", "piper.train.vits.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)


def hearing(data: Data) -> Any:
    """The error rate of the sentences' audio."""
    from voxmake.vits.measure import Ear

    ear = Ear(data.recogniser, data.language)
    return lambda spoken: ear.mean_cer(zip(data.sentences, spoken, strict=True), data.rate_hz)


def publish_voice(run: Run, data: Data, folder: Path, told: dict[str, Any], espeak_voice: str) -> list[tuple[str, Any]]:
    """model/ with the best checkpoint's ONNX, the checkpoints, the log and its plots; the sentences, spoken."""
    import onnx

    from voxmake.vits import piper_export
    from voxmake.vits.export import add_metadata
    from voxmake.vits.package import complete_piper_config, full_code, language_facts
    from voxmake.vits.plots import curves
    from voxmake.vits.speak import OnnxVoice

    spec = run.config.train_piper
    measure_by = spec.select_by if all(spec.select_by in entry for entry in told["evaluations"]) else "mel"
    kept = sorted((folder / "best").glob(f"{measure_by}_*.ckpt"))
    marks = {entry["epoch"]: entry for entry in told["evaluations"]}
    if not kept:
        raise Failure(f"{folder}: training ended before an evaluation; raise train_piper.max_steps")
    best = min(kept, key=lambda path: (marks[int(path.stem[4:])][measure_by], path.stem))
    told |= {"chosen": marks[int(best.stem[4:])], "chosen_by": measure_by}
    model = run.path / "model"
    model.mkdir(exist_ok=True)
    piper_export.export(piper_export.load_for_speech(best), model / "model.onnx")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    code = full_code(espeak_voice if "-" in espeak_voice else data.language)
    config = complete_piper_config(config, "voice", code, PIPER_QUALITY.get(spec.quality, spec.quality))
    run.write_json("model/model.onnx.json", config)
    loaded = onnx.load(model / "model.onnx")
    # What sherpa-onnx reads of a Piper voice (its scripts/piper).
    facts = {
        "model_type": "vits", "comment": "piper", "language": language_facts(code)["name_english"],
        "voice": espeak_voice, "has_espeak": 1, "n_speakers": data.speakers, "sample_rate": data.rate_hz,
    }  # fmt: skip
    add_metadata(loaded, facts)
    onnx.save(loaded, model / "model.onnx")
    tokens = sorted(((ids[0], symbol) for symbol, ids in config["phoneme_id_map"].items()))
    run.write_text("model/tokens.txt", "".join(f"{symbol} {number}\n" for number, symbol in tokens))
    run.add_file("model/model.onnx")
    (run.path / "checkpoints").mkdir(exist_ok=True)
    shutil.copytree(folder / "tensorboard", run.path / "tensorboard", dirs_exist_ok=True)
    for path in sorted((run.path / "tensorboard").iterdir()):
        run.add_file(f"tensorboard/{path.name}")
    for path in sorted((folder / "best").glob("*.ckpt")):
        shutil.copy(path, run.path / "checkpoints" / path.name)
        run.add_file(f"checkpoints/{path.name}")
    run.write_json("training_log.json", told)
    run.write_bytes("plots/curves.png", curves(told["log"], told["evaluations"], LOSSES))
    spoken = OnnxVoice(model / "model.onnx")
    ids = [phoneme_ids(espeak_voice, text) for text in data.sentences]
    run.write_json("sentences.json", [{"text": t, "ids": i} for t, i in zip(data.sentences, ids, strict=True)])
    return [(text, spoken.speak(numbers)) for text, numbers in zip(data.sentences, ids, strict=True)]


def measure(run: Run, data: Data, train: list[Any], spoken: list[tuple[str, Any]], told: dict[str, Any]) -> None:
    from voxmake.vits.measure import measured

    spec, log = run.config.train_piper, told["log"]
    own = [clip for clip in train if clip.speaker_id == 0] or train
    measured(run, spoken, data.rate_hz, own, spec, data.recogniser, data.language)
    # Piper validates only after an epoch: what it began at is the first line of the log.
    ratio = round(told["chosen"]["mel"] / log[0]["mel"], 6)
    run.stat("epochs", len(told["evaluations"]), "evaluations", f"until training stopped: {told['stopped']}")
    run.stat("validation_mel", told["chosen"]["mel"], "log-mel", "distance of segments made, of the chosen checkpoint")
    run.stat("validation_mel_ratio", ratio, "ratio", "the same over the first logged loss of training")
    run.check("validation_mel_ratio", ratio, "<", spec.gate_loss_ratio)


def main(argv: list[str] | None = None) -> int:
    # Threads that wait give their core away: spinning, they take it from the ones that are waited for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
