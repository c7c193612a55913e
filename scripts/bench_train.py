"""Measure training and speaking against the usual way: batches of like length, and onnxruntime against piper.

    make bench-train            # or: python scripts/bench_train.py --steps 20

Prints ratios and saves reports/bench_train.json. Every measurement has a process of its own, so that peak memory is
its own. The rows of Piper need the environment `piper` and are left out without it. Weights are random: only time and
memory are looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from voxmake.run.stage import PROJECT_ROOT

RATE_HZ = 16000
TEXT = "The old lighthouse keeper counted seven ships before the fog came in, and then there was nothing to see."


def make_clips(folder: Path, count: int) -> list[Any]:
    """Clips of 1 to 12 s cut from the demo corpus; the text is as long as the speech."""
    import numpy as np
    import soundfile

    from voxmake.vits.batches import Clip

    sources = sorted((PROJECT_ROOT / "data/demo/recordings").glob("slt/*.flac"))
    speech = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sources])
    chosen, clips = random.Random(1), []
    for number in range(count):
        samples = round(chosen.uniform(1, 12) * RATE_HZ)
        start = chosen.randrange(len(speech) - samples)
        path = folder / f"{number:03}.wav"
        soundfile.write(path, speech[start : start + samples], RATE_HZ, subtype="PCM_16")
        tokens = tuple(chosen.randrange(1, 20) for _ in range(samples * 25 // RATE_HZ))
        clips.append(Clip(f"{number:03}", path, "", tokens, samples, 0, "", samples / RATE_HZ))
    return clips


def train(kind: str, steps: int) -> dict[str, float]:
    """Steps of a tiny voice; `plain` takes batches as a shuffle gives them."""
    import resource

    import torch

    from voxmake.nets.world import World
    from voxmake.vits import batches, voice
    from voxmake.vits.job import Job
    from voxmake.vits.spec import TrainMms
    from voxmake.vits.trainer import Trainer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        clips = make_clips(folder, 64)
        torch.manual_seed(0)
        voice.save_voice(*voice.new_voice("tiny", [TEXT], "en", RATE_HZ, 1, True), folder / "start")
        spec = TrainMms(batch_size=8, gradient_accumulation_steps=1, discriminator_width=0.1, min_free_disk_gb=0)
        job = Job(folder, "bench", 1, spec, RATE_HZ, clips, clips[:1], ["a"], threads=len(os.sched_getaffinity(0)))
        trainer = Trainer(World(job.threads), job, lambda line: None)
        order = [batch for epoch in range(steps) for batch in batches.epoch_batches(clips, 8, 1, epoch)]
        if kind == "plain":
            flat = [clips[n] for epoch in range(steps) for n in batches.random_of(1, epoch).permutation(len(clips))]
            order = [flat[at : at + 8] for at in range(0, len(flat), 8)]
        loaded = batches.read_ahead(order[: steps + 2], trainer.hop, 2)
        for _ in range(2):
            trainer._train_step([next(loaded)], 0)
        begun, begun_cpu = time.monotonic(), time.process_time()
        for batch in loaded:
            trainer._train_step([batch], 0)
            trainer.step += 1
        taken, taken_cpu = time.monotonic() - begun, time.process_time() - begun_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # CPU seconds are the process's own, whatever else the machine does.
    return {
        "steps_per_s": steps / taken,
        "steps_per_cpu_s": steps / taken_cpu,
        "peak_mb": peak,
        "padding": batches.padding_ratio(order[: steps + 2]),
    }


def speak_mms(threads: int) -> dict[str, float]:
    """Real-time factor of a full-size MMS voice in onnxruntime."""
    import torch

    from voxmake.vits import voice
    from voxmake.vits.export import export_onnx
    from voxmake.vits.speak import OnnxVoice

    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        model, tokenizer = voice.new_voice("full", [TEXT], "en", RATE_HZ, 1, True)
        export_onnx(model.eval(), tokenizer, Path(place) / "model.onnx", "en")
        spoken = OnnxVoice(Path(place) / "model.onnx", threads)
        return {"rtf": _rtf(lambda: spoken.speak(spoken.ids(TEXT)).size / RATE_HZ)}


def speak_piper(way: str) -> dict[str, float]:
    """Real-time factor of a medium Piper voice: `1` and `2` threads of onnxruntime, or `piper` itself."""
    import torch

    from voxmake.vits import piper_adapter, piper_export
    from voxmake.vits.export import add_metadata
    from voxmake.vits.speak import OnnxVoice
    from voxmake.vits.spec import TrainPiper

    import onnx  # isort: skip
    from piper import PiperConfig, PiperVoice  # isort: skip
    from piper.config import PhonemeType  # isort: skip
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP  # isort: skip

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        spec = TrainPiper()
        job = piper_adapter.PiperJob(folder, folder, folder, 0, 1, 22050, "en-us", 0, spec)
        path = folder / "voice.onnx"
        torch.manual_seed(0)
        piper_export.export(piper_adapter.make_voice(job).eval(), path)
        model = onnx.load(path)
        add_metadata(model, {"sample_rate": 22050})
        onnx.save(model, path)
        config = PiperConfig(256, 1, 22050, "en-us", DEFAULT_PHONEME_ID_MAP, PhonemeType.ESPEAK)
        Path(f"{path}.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
        if way == "piper":
            voice = PiperVoice.load(path)
            return {"rtf": _rtf(lambda: sum(len(c.audio_float_array) for c in voice.synthesize(TEXT)) / 22050)}
        spoken = OnnxVoice(path, int(way))
        ids = spoken.ids(TEXT)
        return {"rtf": _rtf(lambda: spoken.speak(ids).size / 22050)}


def _rtf(speak: Any, rounds: int = 5) -> float:
    """Seconds for a second of audio, the median of some rounds after one to warm up."""
    speak()
    found = []
    for _ in range(rounds):
        begun = time.monotonic()
        audio_s = speak()
        found.append((time.monotonic() - begun) / audio_s)
    return sorted(found)[rounds // 2]


def child(python: Path, *words: object) -> dict[str, float]:
    command = [str(python), str(Path(__file__)), *map(str, words)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--steps", type=int, default=16, help="optimiser steps of each measurement (default: 16)")
    flags.add_argument("--part", nargs=2, help=argparse.SUPPRESS)  # one measurement, in this process
    args = flags.parse_args(argv)
    if args.part:
        kind, word = args.part
        call = {
            "train": lambda: train(word, args.steps),
            "mms": lambda: speak_mms(int(word)),
            "piper": lambda: speak_piper(word),
        }
        print(json.dumps(call[kind]()))
        return 0
    here = Path(sys.executable)
    table = {}
    for kind in ("like length", "plain"):
        table[f"train_mms, {kind}"] = child(here, "--steps", args.steps, "--part", "train", kind)
    for threads in (1, 2):
        table[f"MMS voice, onnxruntime, {threads} threads"] = child(here, "--part", "mms", threads)
    piper = Path(os.environ.get("VOXMAKE_ENVS") or PROJECT_ROOT / ".venv") / "piper" / "bin" / "python"
    for way in ("1", "2", "piper") if piper.is_file() else ():
        table[f"Piper voice, medium, {way if way == 'piper' else f'onnxruntime, {way} threads'}"] = child(
            piper, "--part", "piper", way
        )
    ours, plain = table["train_mms, like length"], table["train_mms, plain"]
    for name, values in table.items():
        print(f"{name:<45}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    print(f"batches of like length: {ours['steps_per_cpu_s'] / plain['steps_per_cpu_s']:.2f} x the steps of a CPU second, "
          f"{ours['peak_mb'] / plain['peak_mb']:.2f} x the memory")  # fmt: skip
    (PROJECT_ROOT / "reports").mkdir(exist_ok=True)
    (PROJECT_ROOT / "reports/bench_train.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
