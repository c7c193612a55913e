"""Train a voice: fine-tune an MMS base, or any VITS in Hugging Face format, or begin from scratch.

    python scripts/train_mms.py --config configs/demo_voice.yaml
    make train_mms CONFIG=configs/demo_voice.yaml SET='train_mms.mode=mini'
    make train_mms CONFIG=x.yaml SET='train_mms.base_model=models/mms-tts-deu train_mms.missing_characters=add'

Reads the run of prepare_dataset, and of whisper_validate which clips passed (`train_mms.validated`). Killed at any
time, the next run goes on from the last checkpoint to the same losses. With several GPUs in `execution.gpus` it becomes torchrun and each
GPU trains on its part of every batch. Writes model/ (for VitsModel.from_pretrained and pipeline("text-to-speech"), and
model.onnx), the best checkpoints, samples.csv with the spoken sentences measured, and training_log.json with plots.
Exit code 1: a gate says FAIL. docs/voices.md tells how to choose the keys.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import ConfigError
from voxmake.nets.world import World, choose_gpus, follow, under_torchrun
from voxmake.run.digest import tree_digest
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root
from voxmake.vits.preflight import recogniser_key, without_validation
from voxmake.vits.spec import TrainMms

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.vits.preflight import Data


def result_keys(config: Any) -> dict:
    """Where the base lies is no part of the result; what is in it is."""
    keys = config.train_mms.model_dump(mode="json", exclude={"base_model"})
    return {"train_mms": keys, "recogniser": recogniser_key(config), "seed": config.seed}


def outside(config: Any) -> dict[str, str]:
    folder = base_folder(config.train_mms)
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ConfigError(f"train_mms.base_model: no folder {folder}; fetch the model first, voxmake downloads none")
    files = [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")]
    return {"base_model": tree_digest(files, folder, data_root() / ".cache" / "digests.sqlite")}


def base_folder(spec: TrainMms) -> Path | None:
    return None if spec.base_model is None else PROJECT_ROOT / spec.base_model


STAGE = Stage(
    name="train_mms",
    version=1,
    summary="train a VITS voice from scratch or from an MMS base, speak and measure it",
    sections={"train_mms": TrainMms},
    after=("prepare_dataset", "whisper_validate"),
    without=lambda config: without_validation(config.train_mms),
    result_keys=result_keys,
    outside=outside,
)


def work(run: Run, world: World | None) -> None:
    """`world`: of torchrun, or None."""
    from voxmake.vits import preflight

    spec: TrainMms = run.config.train_mms
    data = preflight.read_dataset(run, spec)
    folder = run.path / "training"
    folder.mkdir(exist_ok=True)
    tokenizer = starting_voice(run, data, folder / "start")[1]
    data = replace(data, sentences=speakable(data.sentences, spec, tokenizer))
    train, validation = usable(run, data, tokenizer)
    preflight.check_sizes(data, train, validation, spec.batch_size, "train_mms.batch_size")
    told = train_voice(run, world, data, train, validation, folder)
    publish_voice(run, data, folder, told)
    spoken = speak(run, data.sentences)
    measure(run, data, train, spoken, told)
    run.publish(rows_out=len(train) + len(validation))


def starting_voice(run: Run, data: Data, folder: Path) -> tuple[Any, Any]:
    """The voice to begin with, saved as `start/`: the base with the characters it lacked, or a random one."""
    import torch

    from voxmake.vits import voice

    spec = run.config.train_mms
    torch.manual_seed(run.config.seed)
    if (base := base_folder(spec)) is None:
        texts = [row["text"] for row in data.rows]
        made = voice.new_voice(
            spec.size, texts, data.language, data.rate_hz, data.speakers, spec.stochastic_durations
        )  # fmt: skip
    else:
        model, tokenizer = voice.load_voice(base)
        if model.config.sampling_rate != data.rate_hz:
            raise ConfigError(
                f"the base model speaks at {model.config.sampling_rate} Hz, the clips have {data.rate_hz} Hz: set "
                f"audio.sample_rate_hz to {model.config.sampling_rate}"
            )
        voice.set_speakers(model, data.speakers)
        tokenizer = report_characters(run, data, model, tokenizer)
        made = model, tokenizer
    if not folder.is_dir():
        fresh = folder.with_name("start.new")
        voice.save_voice(*made, fresh)
        fresh.rename(folder)
    return made


def report_characters(run: Run, data: Data, model: Any, tokenizer: Any) -> Any:
    """Say which characters of the texts the base lacks, and add them if the config says so; the tokenizer to use."""
    from voxmake.vits import voice

    lacking: Counter[str] = Counter()
    for row in data.rows:
        lacking.update(voice.unknown_characters(tokenizer, voice.spelled(tokenizer, row["text"])))
    columns = ("character", "codepoint", "clips")
    run.write_table("missing_characters.csv", columns, [(c, f"U+{ord(c):04X}", n) for c, n in sorted(lacking.items())])
    if not lacking:
        return tokenizer
    shown = " ".join(f"{c!r} ({n} clips)" for c, n in lacking.most_common(20))
    remedy = {"drop": "left out of the texts", "add": "added to the vocabulary", "reject": "their clips are rejected"}
    run.log.warning(
        "the base lacks %d characters, %s: %s", len(lacking), remedy[run.config.train_mms.missing_characters], shown
    )
    if run.config.train_mms.missing_characters != "add":
        return tokenizer
    return voice.add_characters(model, tokenizer, lacking)


def speakable(sentences: list[str], spec: TrainMms, tokenizer: Any) -> list[str]:
    """The sentences that have a character which the voice knows.

    Raises:
        ConfigError: the config names one that has none, or none is left.
    """
    from voxmake.vits.voice import tokens_of

    left = [text for text in sentences if tokens_of(tokenizer, text)]
    if not left or (spec.sentences and len(left) < len(sentences)):
        silent = [text for text in sentences if text not in left]
        raise ConfigError(f"train_mms.sentences: the voice knows no character of {silent}: give other sentences")
    return left


def usable(run: Run, data: Data, tokenizer: Any) -> tuple[list[Any], list[Any]]:
    """Clips to train on and to validate with; the others are rejected, each with its reason."""
    from voxmake.vits import voice
    from voxmake.vits.batches import Clip
    from voxmake.vits.preflight import HOP, refuse

    spec = run.config.train_mms
    splits: dict[str, list[Clip]] = {"train": [], "validation": []}
    for row in data.rows:
        samples = data.samples[row["id"]]
        missing = voice.unknown_characters(tokenizer, voice.spelled(tokenizer, row["text"]))
        tokens = voice.tokens_of(tokenizer, row["text"])
        if samples < spec.segment_samples:
            refuse(run, row, "shorter_than_segment", f"{samples} samples of {spec.segment_samples}")
        elif spec.missing_characters == "reject" and missing:
            refuse(run, row, "text_alphabet", " ".join(sorted(missing)))
        elif not tokens:
            refuse(run, row, "text_alphabet", "no character of it is known")
        elif len(tokens) > samples // HOP:
            refuse(run, row, "text_longer_than_audio", f"{len(tokens)} tokens, {samples // HOP} frames")
        else:
            clip = Clip(
                row["id"], data.path / row["file_name"], row["text"], tuple(tokens), samples, int(row["speaker_id"]),
                row["source"], float(row["duration_s"]),
            )  # fmt: skip
            splits[row["split"]].append(clip)
    run.take_in(len(splits["train"]) + len(splits["validation"]))
    return splits["train"], splits["validation"]


def train_voice(
    run: Run, world: World | None, data: Data, train: list[Any], validation: list[Any], folder: Path
) -> dict[str, Any]:
    """Train, in this process or in several; returns training_log.json."""
    import json

    from voxmake.vits.job import Job
    from voxmake.vits.preflight import say_estimate
    from voxmake.vits.trainer import Trainer

    spec, execution = run.config.train_mms, run.config.execution
    job = Job(
        folder, run.planned.hash12, run.config.seed, spec, data.rate_hz, train, validation, data.sentences, data.language,
        data.recogniser, execution.loader_workers, execution.workers or len(os.sched_getaffinity(0)),
    )  # fmt: skip
    say_estimate(run, train, spec.batch_size, from_scratch=spec.base_model is None)
    if (folder / "training_log.json").is_file():
        run.log.info("training is done already")
    else:
        if world is None:
            choose_gpus(execution.gpus)
            world = World(job.threads)
        run.notes |= {"device": str(world.device), "processes": world.size}
        world.share(job)
        Trainer(world, job, run.log.info).train()
    return json.loads((folder / "training_log.json").read_text(encoding="utf-8"))


def publish_voice(run: Run, data: Data, folder: Path, told: dict[str, Any]) -> None:
    """model/ with its ONNX, the other best checkpoints, the log, its plots, TensorBoard's file."""
    from voxmake.vits import voice
    from voxmake.vits.export import export_onnx
    from voxmake.vits.plots import curves
    from voxmake.vits.trainer import LOSSES

    for entry in told["best"]:
        name = f"step_{entry['step']:07d}"
        goal = "model" if entry["step"] == told["chosen"]["step"] else f"checkpoints/{name}"
        shutil.copytree(folder / "best" / name, run.path / goal, dirs_exist_ok=True)
    model, tokenizer = voice.load_voice(run.path / "model")
    export_onnx(model.eval(), tokenizer, run.path / "model" / "model.onnx", data.language)
    shutil.copytree(folder / "tensorboard", run.path / "tensorboard", dirs_exist_ok=True)
    for part in ("model", "checkpoints", "tensorboard"):
        for path in sorted((run.path / part).rglob("*")):
            if path.is_file():
                run.add_file(path.relative_to(run.path).as_posix())
    run.write_json("training_log.json", told)
    run.write_bytes("plots/curves.png", curves(told["log"], told["evaluations"], LOSSES))


def speak(run: Run, sentences: list[str]) -> list[tuple[str, Any]]:
    """The sentences by the exported voice, as everybody who has the file will hear them."""
    from voxmake.vits.speak import OnnxVoice

    spoken = OnnxVoice(run.path / "model" / "model.onnx")
    ids = [spoken.ids(text) for text in sentences]
    run.write_json("sentences.json", [{"text": t, "ids": i} for t, i in zip(sentences, ids, strict=True)])
    return [(text, spoken.speak(numbers)) for text, numbers in zip(sentences, ids, strict=True)]


def measure(run: Run, data: Data, train: list[Any], spoken: list[tuple[str, Any]], told: dict[str, Any]) -> None:
    from voxmake.vits.measure import measured

    spec, first = run.config.train_mms, told["evaluations"][0]
    own = [clip for clip in train if clip.speaker_id == 0] or train
    measured(run, spoken, data.rate_hz, own, spec, data.recogniser, data.language)
    ratio = told["chosen"]["mel"] / first["mel"]
    run.stat("steps", told["steps"], "steps", f"optimiser steps until training stopped: {told['stopped']}")
    run.stat("batch_size", told["batch_size"], "clips", "at once")
    run.stat(
        "validation_mel",
        told["chosen"]["mel"],
        "log-mel",
        "distance of rebuilt validation clips, of the chosen checkpoint",
    )
    run.stat("validation_mel_ratio", round(ratio, 6), "ratio", "the same over its value before training")
    run.check("validation_mel_ratio", round(ratio, 6), "<", spec.gate_loss_ratio)


def take_part(world: World, job: Any) -> None:
    """What the processes of rank 1 and above do."""
    from voxmake.vits.trainer import Trainer

    Trainer(world, job, lambda line: None).train()


def main(argv: list[str] | None = None) -> int:
    # Threads that wait give their core away: spinning, they take it from the ones that are waited for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    flags = parser(__doc__)
    if not under_torchrun():
        return run_stage(STAGE, lambda run: work(run, None), flags, argv)
    flags.parse_args(argv)
    world = World(1)
    if world.rank:
        return follow(world, take_part)
    code = run_stage(STAGE, lambda run: work(run, world), flags, argv)
    world.share()
    world.close()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
