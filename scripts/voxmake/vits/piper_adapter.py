"""Between voxmake and piper-tts 1.8.0's trainer: its classes are used as they are, its faults are closed here.

docs/voices.md names, for each of these, the change upstream that makes it needless:

1. `piper.train.vits.monotonic_align.monotonic_align` is in neither wheel nor sdist: `install_alignment` puts voxmake's
   search there (the same path, compiled by numba).
2. UTMOS is fetched through torch.hub: `mos_metric` is switched off; CER of the sentences takes its place.
3. Its default callbacks watch val_mos, which then never comes, and end the first epoch: `fit` uses Lightning's Trainer
   with its own callbacks instead of `piper.train.__main__`.
4. Its export uses torch's newest exporter, which stops at VITS' splines: `piper_export` asks for the older one.
5. Its learning rates never decay, because nobody steps the schedulers: `Voice` does, after each epoch.
6. It splits at random: `Clips` keeps the dataset's splits, and shuffles by (seed, epoch), so that a killed training
   goes on as if nothing had been.
"""

from __future__ import annotations

import math
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import Sampler, Subset

from voxmake.errors import ConfigError, Failure
from voxmake.nets.board import Board
from voxmake.vits import align
from voxmake.vits.batches import random_of
from voxmake.vits.objective import discriminators
from voxmake.vits.spec import TrainPiper

# Keys of Piper's VitsModel. medium is its default; low is the same at 16 kHz; high is its --quality high of old.
QUALITIES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_channels": 48, "inter_channels": 48, "filter_channels": 96, "n_layers": 2,
        "upsample_initial_channel": 64,
    },
    "low": {},
    "medium": {},
    "high": {
        "resblock": "1", "resblock_kernel_sizes": (3, 7, 11),
        "resblock_dilation_sizes": ((1, 3, 5), (1, 3, 5), (1, 3, 5)), "upsample_rates": (8, 8, 2, 2),
        "upsample_initial_channel": 512, "upsample_kernel_sizes": (16, 16, 4, 4),
    },
}  # fmt: skip


def install_alignment() -> None:
    """Fault 1: the module that Piper imports at its first forward pass."""

    def maximum_path_c(paths: np.ndarray, values: np.ndarray, frames: np.ndarray, tokens: np.ndarray) -> None:
        paths[:] = align.best_paths(values, frames, tokens)

    name = "piper.train.vits.monotonic_align.monotonic_align"
    package, core = types.ModuleType(name), types.ModuleType(f"{name}.core")
    core.maximum_path_c = maximum_path_c
    package.core, package.__path__ = core, []
    sys.modules |= {name: package, f"{name}.core": core}


install_alignment()

from piper.train.vits.dataset import VitsDataModule  # noqa: E402 - what it imports must be there
from piper.train.vits.lightning import VitsModel  # noqa: E402


class _Judge(torch.nn.Module):
    """voxmake's narrow discriminators behind Piper's interface: for a CPU, whose time Piper's 47 million would take."""

    def __init__(self, width: float):
        super().__init__()
        self.parts = discriminators(width)

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[list, list, list, list]:
        (real_logits, real_features), (fake_logits, fake_features) = self.parts(real), self.parts(fake)
        return real_logits, fake_logits, real_features, fake_features


class Voice(VitsModel):
    """Piper's model: rates that decay, and sentences heard at every evaluation."""

    def __init__(self, **keys: Any):
        super().__init__(**keys)
        if (width := self.hparams.get("discriminator_width", 1.0)) < 1:
            self.model_d = _Judge(width)
        self.after_validation: Callable[[], dict[str, float]] | None = None

    def on_train_epoch_end(self) -> None:
        """Fault 5."""
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.after_validation is not None and not self.trainer.sanity_checking:
            self.log_dict(self.after_validation())


class _Order(Sampler):
    """Clips in an order of each epoch's own; Lightning tells the epoch."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(random_of(self.seed, "epoch", self.epoch).permutation(self.count).tolist())


class Clips(VitsDataModule):
    """Piper's data with the dataset's own splits: the first `train_count` rows are trained on. Fault 6."""

    def __init__(self, train_count: int, seed: int, **keys: Any):
        super().__init__(**keys)
        self.train_count, self.seed = train_count, seed

    def setup(self, stage: str) -> None:
        super().setup(stage)
        everything = self.train_dataset.dataset
        self.train_dataset = Subset(everything, range(self.train_count))
        self.val_dataset = Subset(everything, range(self.train_count, len(everything)))
        self.test_dataset = Subset(everything, [])

    def train_dataloader(self) -> Any:
        from torch.utils.data import DataLoader

        plain = super().train_dataloader()
        return DataLoader(
            self.train_dataset, batch_size=self.batch_size, sampler=_Order(self.train_count, self.seed),
            collate_fn=plain.collate_fn, drop_last=plain.drop_last, num_workers=0,
        )  # fmt: skip


@dataclass(frozen=True)
class PiperJob:
    """One training with Piper.

    Attributes:
        folder: checkpoints and the log are kept there.
        csv: `wav|text` or `wav|speaker|text`, training rows first.
        train_count: how many of its rows are trained on.
        sentences: phoneme ids of what is spoken at every evaluation.
        hear: mean CER of the sentences' audio, float32, or None if nobody listens.
    """

    folder: Path
    csv: Path
    audio: Path
    train_count: int
    speakers: int
    rate_hz: int
    espeak_voice: str
    seed: int
    spec: TrainPiper
    checkpoint: Path | None = None
    gpu: int | None = None
    threads: int = 1
    sentences: tuple[tuple[int, ...], ...] = ()
    hear: Callable[[list[np.ndarray]], float] | None = None


def make_voice(job: PiperJob) -> Voice:
    """The model with random weights, by the seed."""
    torch.manual_seed(job.seed)
    spec = job.spec
    return Voice(
        batch_size=spec.batch_size, sample_rate=job.rate_hz, num_speakers=job.speakers, mos_metric=None,
        segment_size=spec.segment_samples, learning_rate=spec.learning_rate,
        learning_rate_d=spec.discriminator_learning_rate, discriminator_width=spec.discriminator_width,
        **QUALITIES[spec.quality],
    )  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint, of weights and plain values only.

    Raises:
        ConfigError: it holds other things, or is none.
    """
    import pathlib
    import pickle

    with torch.serialization.safe_globals([pathlib.PosixPath, pathlib.WindowsPath]):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).splitlines()[0][:120]
            raise ConfigError(f"train_piper.checkpoint: {path} can't be loaded safely: {reason}") from None
    if not isinstance(found, dict) or "state_dict" not in found:
        raise ConfigError(f"train_piper.checkpoint: {path} is no checkpoint of Piper: it has no state_dict")
    return found


def check_shapes(voice: Voice, state: dict[str, torch.Tensor], use: str) -> str:
    """Compare a checkpoint's shapes with the voice's before anything is trained; says how many fit.

    Raises:
        ConfigError: too few for what it is used for; names the first that differ and what to set.
    """
    own = {name: tuple(value.shape) for name, value in voice.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    fitting = {name for name, shape in own.items() if found.get(name) == shape}
    differing = sorted(name for name in {*own, *found} if own.get(name) != found.get(name))
    generator = [name for name in own if name.startswith("model_g.")]
    share = sum(name in fitting for name in generator) / len(generator)
    if (use == "resume" and differing) or share < 0.5:
        shown = ", ".join(f"{name} {found.get(name, 'missing')} for {own.get(name, 'none')}" for name in differing[:3])
        raise ConfigError(
            f"train_piper.checkpoint: {len(differing)} of {len(own)} weights do not fit ({shown}); {_hint(own, found)}"
        )
    return f"{len(fitting)} of {len(own)} weights fit"


def _hint(own: dict[str, tuple], found: dict[str, tuple]) -> str:
    speakers = "model_g.emb_g.weight"
    if own.get(speakers) != found.get(speakers):
        count = found.get(speakers, (1,))[0]
        return f"it was trained for {count} speakers: choose as many with dataset.speakers, or use warm_start"
    if found.get("model_g.enc_p.emb.weight") != own["model_g.enc_p.emb.weight"]:
        return "it has other symbols or another size: set train_piper.quality to what it was trained with"
    return "it is of another quality: set train_piper.quality to what it was trained with"


class _Watch(Callback):
    """The log, one line in fixed width; and the reasons to stop that Lightning does not know."""

    def __init__(self, job: PiperJob, say: Callable[[str], None], epochs: int):
        self.job, self.say, self.epochs = job, say, epochs
        # Not `log`: Lightning gives a callback the module's function of that name.
        self.lines, self.evaluations, self.bad, self.stopped = [], [], 0, "epochs"
        self.board: Board | None = None
        self.board_bytes, self.spoken = 0, []

    def state_dict(self) -> dict[str, Any]:
        size = self.board.size_bytes() if self.board else 0
        return {"log": self.lines, "evaluations": self.evaluations, "board_bytes": size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lines, self.evaluations, self.board_bytes = state["log"], state["evaluations"], state["board_bytes"]

    def on_fit_start(self, trainer: Any, voice: Any) -> None:
        self.board = Board(self.job.folder / "tensorboard", self.board_bytes)

    def speak(self, voice: Voice) -> dict[str, float]:
        """The sentences, for the board; and their CER, if somebody listens."""
        self.spoken = []
        with torch.no_grad():
            for numbers in self.job.sentences:
                tokens = torch.tensor([numbers], device=voice.device)
                sid = torch.tensor([0], device=voice.device) if self.job.speakers > 1 else None
                made = voice(tokens, torch.tensor([len(numbers)], device=voice.device), [0.667, 1.0, 0.8], sid=sid)
                self.spoken.append(made.reshape(-1).float().cpu().numpy())
        return {} if self.job.hear is None else {"val_cer": self.job.hear(self.spoken)}

    def on_train_batch_start(self, trainer: Any, voice: Any, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(int(random_of(self.job.seed, "noise", trainer.current_epoch, batch_idx).integers(2**31)))

    def on_validation_start(self, trainer: Any, voice: Any) -> None:
        # What is measured hangs on the weights alone; training draws anew for each batch.
        torch.manual_seed(self.job.seed)

    def on_train_batch_end(self, trainer: Any, voice: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        per_epoch = trainer.num_training_batches
        step, spec = trainer.current_epoch * per_epoch + batch_idx + 1, self.job.spec
        values = {
            name.removeprefix("train_"): round(float(value), 6)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train_", "loss_"))
        }
        self.bad = 0 if all(math.isfinite(value) for value in values.values()) else self.bad + 1
        if self.bad >= 3:  # Piper steps its optimisers whatever the loss: by then the weights are lost
            raise Failure(
                f"step {step}: losses are not finite; lower train_piper.learning_rate; the last checkpoint is kept"
            )
        total = min(self.epochs * per_epoch, spec.max_steps or math.inf)
        if step % spec.logging_steps == 0 or step == total:
            self.lines.append({"step": step, "epoch": trainer.current_epoch} | values)
            self.board.scalars(step, {f"train/{name}": value for name, value in values.items()})
            told = " | ".join(
                f"{name} {values[name]:9.3f}" for name in ("loss_g", "mel", "kl", "dur", "gen", "fm", "disc")
            )
            self.say(
                f"step {step:07d}/{total:07d} ({100 * step / total:6.2f} %) | epoch {trainer.current_epoch:5d} | {told}"
            )
        if spec.max_steps is not None and step >= spec.max_steps:
            self.stopped, trainer.should_stop = "max_steps", True

    def on_validation_end(self, trainer: Any, voice: Any) -> None:
        if trainer.sanity_checking:
            return
        free = shutil.disk_usage(self.job.folder).free / 1e9
        if free < self.job.spec.min_free_disk_gb:
            raise Failure(
                f"{self.job.folder}: {free:.1f} GB free, less than train_piper.min_free_disk_gb; make room, then run again"
            )
        found = {
            k.removeprefix("val_"): round(float(v), 6)
            for k, v in trainer.callback_metrics.items()
            if k.startswith("val_")
        }
        step = (trainer.current_epoch + 1) * trainer.num_training_batches
        self.evaluations.append({"step": step, "epoch": trainer.current_epoch} | found)
        self.board.scalars(step, {f"validation/{name}": value for name, value in found.items()})
        for number, samples in enumerate(self.spoken):
            self.board.audio(step, f"sentence {number}", samples, self.job.rate_hz)
        self.say(
            f"evaluation after epoch {trainer.current_epoch}: " + " ".join(f"{k} {v:.4f}" for k, v in found.items())
        )


def fit(job: PiperJob, say: Callable[[str], None]) -> dict[str, Any]:
    """Train to the end, going on from the folder's last checkpoint; returns what training_log.json tells."""
    spec = job.spec
    voice = make_voice(job)
    last, resumed = job.folder / "last.ckpt", None
    if last.is_file():
        resumed = last
        say("resuming from the last checkpoint")
    elif job.checkpoint is not None:
        state = read_checkpoint(job.checkpoint)["state_dict"]
        say(f"{job.checkpoint.name}: {check_shapes(voice, state, spec.checkpoint_use)}")
        if spec.checkpoint_use == "resume":
            resumed = job.checkpoint
        else:
            own = voice.state_dict()
            own.update({k: v for k, v in state.items() if k in own and own[k].shape == v.shape})
            voice.load_state_dict(own)
    data = Clips(
        job.train_count, job.seed, csv_path=job.csv, cache_dir=job.folder / "cache", espeak_voice=job.espeak_voice,
        config_path=job.folder / "config.json", voice_name="voice", audio_dir=job.audio, trim_silence=False,
        num_workers=0, sample_rate=job.rate_hz, num_speakers=job.speakers, batch_size=spec.batch_size,
        segment_size=spec.segment_samples, num_test_examples=0,
    )  # fmt: skip
    epochs = spec.mini_epochs if spec.mode == "mini" else spec.num_epochs
    if resumed is not None and resumed != last:
        epochs += int(read_checkpoint(resumed)["epoch"]) + 1
    watch = _Watch(job, say, epochs)
    voice.after_validation = lambda: watch.speak(voice)
    kept = {
        "dirpath": job.folder / "best", "save_top_k": spec.keep_checkpoints, "mode": "min",
        "every_n_epochs": spec.eval_epochs, "auto_insert_metric_name": False, "save_on_train_epoch_end": False,
    }  # fmt: skip
    callbacks = [watch, ModelCheckpoint(monitor="val_mel", filename="mel_{epoch:05d}", **kept)]
    if job.hear is not None:
        callbacks.append(ModelCheckpoint(monitor="val_cer", filename="cer_{epoch:05d}", **kept))
    # At the end of training epochs, schedulers stepped and all: this one is resumed from.
    callbacks.append(
        ModelCheckpoint(dirpath=job.folder, filename="last", save_top_k=1, monitor=None, enable_version_counter=False,
                        every_n_epochs=spec.eval_epochs, save_on_train_epoch_end=True)
    )  # fmt: skip
    if spec.mode == "full":
        callbacks.append(EarlyStopping("val_mel", spec.min_improvement, spec.patience, mode="min"))
    precision = {"no": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}[spec.mixed_precision]
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    trainer = lightning.Trainer(
        accelerator="cpu" if job.gpu is None else "gpu", devices=1 if job.gpu is None else [job.gpu], logger=False,
        precision="32-true" if job.gpu is None else precision, max_epochs=epochs, callbacks=callbacks,
        check_val_every_n_epoch=spec.eval_epochs, num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=job.folder,
    )  # fmt: skip
    trainer.fit(voice, data, ckpt_path=resumed, weights_only=True if resumed else None)
    watch.board.close()
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.should_stop and watch.stopped == "epochs":
        watch.stopped = "plateau"
    return {"stopped": watch.stopped, "log": watch.lines, "evaluations": watch.evaluations}
