"""Train a small voice on four clips of ljspeech_en, to see that it can learn them: shared by the test and the docs."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train_mms sets it

import numpy as np
import soundfile

from voxmake.nets.world import World
from voxmake.vits import batches, objective, voice
from voxmake.vits.job import Job
from voxmake.vits.spec import TrainMms
from voxmake.vits.trainer import Trainer


def clips_of(data: Path, count: int = 4):
    """The shortest clips of the real LJSpeech ones, with their texts."""
    rows = [line.split("|") for line in (data / "metadata.csv").read_text(encoding="utf-8").splitlines()]
    found = []
    for name, _, text in rows:
        path = data / "wavs" / f"{name}.wav"
        frames = soundfile.info(path).frames
        found.append(batches.Clip(name, path, text, (), frames, 0, path.name, frames / 22050))
    return sorted(found, key=lambda clip: clip.samples)[:count]


def overfit(data: Path, folder: Path, steps: int, say=print, **keys):
    """Train `steps` steps; returns the trainer, and the alignments before and after (frames, tokens)."""
    import torch

    torch.manual_seed(0)
    clips = clips_of(data)
    model, tokenizer = voice.new_voice("tiny", [clip.text for clip in clips], "en", 22050, 1, True)
    voice.save_voice(model, tokenizer, folder / "start")
    clips = [
        batches.Clip(
            c.id, c.path, c.text, tuple(voice.tokens_of(tokenizer, c.text)), c.samples, 0, c.source, c.duration_s
        )
        for c in clips
    ]
    spec = TrainMms(**{
        "mode": "mini", "mini_epochs": 100000, "max_steps": steps, "batch_size": 4, "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3, "lr_decay": 0.999, "warmup_steps": 20, "eval_steps": 50, "kl_weight": 0.02, "save_steps": 10000,
        "logging_steps": 10, "keep_checkpoints": 1, "min_free_disk_gb": 0, "discriminator_width": 0.1,
    } | keys)  # fmt: skip
    job = Job(folder, "overfit", 1, spec, 22050, clips, clips, [clips[0].text], threads=2)
    trainer = Trainer(World(2), job, say)
    first = paths(trainer, 0)
    trainer.train()
    return trainer, first, paths(trainer, 0)


def paths(trainer: Trainer, seed: int) -> list[np.ndarray]:
    """Alignment of every clip, with one draw of the posterior."""
    import torch

    trainer.model.eval()
    found = []
    with torch.no_grad():
        for clip in trainer.job.train:
            torch.manual_seed(seed)
            found.append(objective.align(trainer.model, batches.load_batch([clip], trainer.hop))["path"][0].numpy())
    trainer.model.train()
    return found
