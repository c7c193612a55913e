"""Training of a vocoder: adversarial, resumable at any step to the same curve, with guards that act.

Losses are HiFi-GAN's (mel 45, features 2, least squares 1), the mel-only start is Vocos', the auxiliary mel vec2wav
2.0's. What ends training early is the validation's log-mel L1 on clips that are not trained on: a generator's own loss
rises as soon as the discriminators work, and says nothing.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from voxmake.errors import Failure
from voxmake.nets import checkpoint as states
from voxmake.nets.board import Board
from voxmake.nets.discriminators import (
    Discriminators,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
)
from voxmake.nets.losses import LogMel, discriminator_loss, feature_matching, generator_loss
from voxmake.nets.world import World
from voxmake.units.features import RATE_HZ
from voxmake.vocoder.data import Batch, Crops, middle
from voxmake.vocoder.job import Job, Progress
from voxmake.vocoder.model import write_vocoder
from voxmake.vocoder.spec import VocoderSpec

FINAL, LATEST = "vocoder_final", "vocoder_latest"
_SMOOTHED = 3  # validations whose mean is watched
_MEANS = ("mel", "auxiliary", "adversary", "features", "discriminator", "real", "fake", "gradient_g", "gradient_d")


class Trainer:
    """One process's part of a training.

    Args:
        say: takes a line for the log.
    """

    def __init__(self, world: World, job: Job, say: Callable[[str], None]):
        self.world, self.job, self.say = world, job, say
        self.spec: VocoderSpec = job.facts.spec
        self.device = world.device
        torch.manual_seed(job.seed)
        self.generator = job.facts.generator().to(self.device)
        self.discriminator = discriminators(self.spec).to(self.device)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.optimisers = {
            name: torch.optim.AdamW(module.parameters(), self.spec.lr, betas=(0.8, 0.99), weight_decay=0.01)
            for name, module in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        self.mel = LogMel(RATE_HZ, high_hz=8000.0).to(self.device)
        self.unit_mel = LogMel(RATE_HZ, hop=job.facts.hop_samples, high_hz=8000.0).to(self.device)
        if self.spec.batch_size % world.size:
            raise Failure(f"vocoder.batch_size {self.spec.batch_size} must be divisible by {world.size} processes")
        self.crops = Crops(job.train, self.spec.crop_units, job.facts.hop_samples, job.seed)
        count = round(self.spec.validation_s * RATE_HZ / job.facts.hop_samples)
        self.validation = [middle(clip, count, job.facts.hop_samples) for clip in job.validation]
        self.at = Progress()
        self.sums = torch.zeros(len(_MEANS), device=self.device, dtype=torch.float64)
        self.history: list[dict[str, Any]] = []
        self.alarms: list[dict[str, Any]] = []
        self.checkpoint = states.Checkpoint(job.folder / f"{LATEST}.safetensors", job.identity, job.checkpoint_every_s)
        self.steps_per_epoch = max(1, self.spec.samples_per_epoch // self.spec.batch_size)
        self.seconds, self.steps_timed = 0.0, 0

    # ------------------------------------------------------------------ the whole

    def run(self) -> None:
        """Train to the end. Files of rank 0: vocoder_final, vocoder_latest, vocoder_epoch_XXXX, samples, logs."""
        self._resume()
        self.board = Board(self.job.folder / "tensorboard", self.at.board_bytes) if self.world.rank == 0 else None
        if not self.history:
            self._validated({"epoch": 0, "step": 0})  # of random weights: what training starts from
        while self.at.epoch < self.spec.epochs and not self.at.stopped:
            begun_s = time.monotonic()
            while self.at.in_epoch < self.steps_per_epoch:
                self.sums += self._step()
                self.at.step += 1
                self.at.in_epoch += 1
                self.steps_timed += 1
                if self.world.rank == 0 and self.checkpoint.due() and self.at.in_epoch < self.steps_per_epoch:
                    self._save()
            self.seconds += time.monotonic() - begun_s
            self._end_epoch()
        if self.world.rank == 0:
            self._save()
            self.board.close()

    def _end_epoch(self) -> None:
        means = (self.sums / self.at.in_epoch).tolist()
        self.sums.zero_()
        row = {"epoch": self.at.epoch + 1, "step": self.at.step, "lr": _six(self.lr())}
        self.at.epoch, self.at.in_epoch = self.at.epoch + 1, 0
        row |= {name: _six(value) for name, value in zip(_MEANS, means, strict=True)}
        self._validated(row)
        if self.at.waited >= self.spec.patience:
            self.at.stopped = f"no better validation for {self.spec.patience} epochs"
        last = self.at.epoch == self.spec.epochs or bool(self.at.stopped)
        if self.world.rank == 0:
            self.say(
                f"epoch {row['epoch']} of {self.spec.epochs}: mel {row['mel']:.4g}, D {row['discriminator']:.3g}, "
                f"validation {row['validation']:.4g}, {self.steps_timed / self.seconds:.3g} steps/s"
            )
            if self.at.epoch % self.spec.save_every == 0 or last:
                self._keep_epoch()
            if self.checkpoint.due():
                self._save()

    def _validated(self, row: dict[str, Any]) -> None:
        """Validate, note it, and keep the weights if they are the best. Other processes take rank 0's result."""
        row["validation"] = _six(self.world.share(self.validate() if self.world.rank == 0 else None))
        begin = self.spec.mel_only_steps + self.spec.ramp_steps
        if self.at.step >= begin and not self.at.adversarial:
            # A mel alone is nearest to the mel, and buzzes: those weights are no rivals of what comes now.
            self.at.adversarial, self.at.best, self.at.mark = True, math.inf, math.inf
        rivals = [past["validation"] for past in self.history[1:] if (past["step"] >= begin) == self.at.adversarial]
        recent = [*rivals[1 - _SMOOTHED :], row["validation"]]
        row["smoothed"] = _six(sum(recent) / len(recent))
        self.history.append(row)
        if self.world.rank == 0:
            self.board.scalars(
                row["step"], {name: value for name, value in row.items() if name not in ("epoch", "step")}
            )
        if row["epoch"] == 0:
            return
        if row["smoothed"] < self.at.best:
            self.at.best = row["smoothed"]
            if self.world.rank == 0:
                self._write(FINAL)
        if row["smoothed"] <= self.at.mark - self.spec.min_delta:
            self.at.mark, self.at.waited = row["smoothed"], 0
        elif self.at.adversarial:
            self.at.waited += 1

    @torch.inference_mode()
    def validate(self) -> float:
        """45 x log-mel L1 of the averaged generator, mean over the validation clips."""
        found = []
        for one in self.validation:
            batch = Batch.of([one])
            fake, _ = self._generate(self.averaged, batch)
            real = torch.from_numpy(batch.wave)[:, None].to(self.device)
            found.append((self.mel(fake) - self.mel(real)).abs().mean())
        return 45.0 * float(torch.stack(found).mean())

    # ------------------------------------------------------------------ a step

    def lr(self) -> float:
        return self.spec.lr * self.spec.lr_decay**self.at.epoch

    def _step(self) -> torch.Tensor:
        """One step of both sides; the numbers of `_MEANS`, over all processes."""
        spec, at = self.spec, self.at
        batch = self._batch()
        real = torch.from_numpy(batch.wave)[:, None].to(self.device)
        fake, told = self._generate(self.generator, batch)
        adversarial = (
            min(1.0, (at.step - spec.mel_only_steps) / spec.ramp_steps) if at.step >= spec.mel_only_steps else 0.0
        )
        begun = at.step >= spec.mel_only_steps
        zero = torch.zeros((), device=self.device)
        d_loss = d_real = d_fake = d_norm = zero
        if begun:
            d_loss, d_real, d_fake, d_norm = self._train_discriminators(real, fake.detach())
        mel = (self.mel(fake) - self.mel(real)).abs().mean()
        auxiliary = (told.float() - self.unit_mel(real)).abs().mean()
        loss = spec.mel_weight * mel
        if at.step < spec.auxiliary_steps:
            loss = loss + spec.auxiliary_weight * auxiliary
        adversary = features = zero
        if begun:
            self.discriminator.requires_grad_(False)
            with self._autocast():
                logits, inner = self.discriminator(fake)
                with torch.no_grad():
                    _, wanted = self.discriminator(real)
            self.discriminator.requires_grad_(True)
            adversary, features = generator_loss(logits), feature_matching(wanted, inner)
            loss = loss + adversarial * (adversary + spec.feature_weight * features)
        g_norm = self._descend("generator", self.generator, loss, self.lr())
        decay = min(spec.ema_decay, (1 + at.step) / (10 + at.step))  # the first steps' weights are forgotten at once
        with torch.no_grad():
            for average, now in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
                average.lerp_(now, 1 - decay)
        values = (mel, auxiliary, adversary, features, d_loss, d_real, d_fake, g_norm, d_norm)
        means = self.world.mean(torch.stack([value.detach().double() for value in values]))
        if begun:
            self._watch(float(means[_MEANS.index("discriminator")]))
        return means

    def _train_discriminators(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Their loss, mean of parts, scores of real and generated waves, and gradients' norm; a step unless they rest."""
        rests = self.at.step % self.at.discriminator_every != 0
        with torch.set_grad_enabled(not rests), self._autocast():
            (ours, _), (theirs, _) = self.discriminator(real), self.discriminator(fake)
        loss = discriminator_loss(ours, theirs)
        norm = torch.zeros((), device=self.device)
        if not rests:
            lr = self.lr() * self.at.discriminator_factor
            norm = self._descend("discriminator", self.discriminator, loss, lr)
        scores = [torch.stack([logits.float().mean() for logits in side]).mean().detach() for side in (ours, theirs)]
        return loss.detach() / len(ours), *scores, norm

    def _watch(self, loss: float) -> None:
        """The alarm: discriminators that have won teach nothing, so they are held back until they can lose again."""
        at, spec = self.at, self.spec
        low = loss < spec.collapse_loss
        at.low_steps, at.high_steps = (at.low_steps + 1, 0) if low else (0, at.high_steps + 1)
        if at.low_steps >= spec.collapse_steps:
            at.discriminator_factor, at.discriminator_every, at.low_steps = at.discriminator_factor / 2, 2, 0
            self.alarms.append({"step": at.step, "loss": _six(loss), "lr_factor": at.discriminator_factor})
            if self.world.rank == 0:
                self.say(
                    f"ALARM at step {at.step}: discriminators have won (loss {loss:.2g} a part for "
                    f"{spec.collapse_steps} steps); their learning rate is halved, and they take every second step"
                )
        elif at.discriminator_every > 1 and at.high_steps >= spec.collapse_steps:
            at.discriminator_every = 1

    def _descend(self, name: str, module: nn.Module, loss: torch.Tensor, lr: float) -> torch.Tensor:
        """Backwards, gradients averaged and cut, one step of the optimiser. Returns the norm before the cut."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.world.average_gradients(module.parameters())
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.spec.gradient_clip)
        # The loss as well: the slope of |x - NaN| is 0.
        if not (math.isfinite(float(norm)) and math.isfinite(float(loss.detach()))):
            raise Failure(
                f"step {self.at.step}: the {name}'s loss is {float(loss.detach()):.4g}, its gradients {float(norm):.4g}: training "
                f"stopped; the last good state is {self.checkpoint.path}; lower vocoder.lr or vocoder.gradient_clip, "
                "or set vocoder.precision=float32"
            )
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.step()
        return norm

    def _batch(self) -> Batch:
        """This process's share of the step's crops."""
        share = self.spec.batch_size // self.world.size
        first = self.at.step * self.spec.batch_size + self.world.rank * share
        return Batch.of([self.crops.draw(first + number) for number in range(share)])

    def _generate(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        pitch = None if batch.pitch is None else torch.from_numpy(batch.pitch).transpose(1, 2).to(self.device)
        with self._autocast():
            return model(
                torch.from_numpy(batch.units).to(self.device), torch.from_numpy(batch.speaker).to(self.device), pitch
            )

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bfloat16")

    # ------------------------------------------------------------------ files

    def _state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "sums": self.sums,
            "random": states.random_state(),
        }

    def _save(self) -> None:
        self.at.board_bytes = self.board.size_bytes()
        arrays, shape = states.pack(self._state())
        facts = {"shape": shape, "at": vars(self.at), "history": self.history, "alarms": self.alarms}
        self.checkpoint.save(arrays, facts)

    def _resume(self) -> None:
        found = self.checkpoint.load()
        if found is None:
            return
        arrays, facts = found
        state = states.unpack(arrays, facts["shape"])
        for name in ("generator", "averaged", "discriminator"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.sums = state["sums"].to(self.device)
        states.restore_random_state(state["random"])
        self.at, self.history, self.alarms = Progress(**facts["at"]), facts["history"], facts["alarms"]
        if self.world.rank == 0:
            self.say(f"training goes on at epoch {self.at.epoch + 1}, step {self.at.step}")

    def _write(self, name: str) -> None:
        told = {"epoch": self.at.epoch, "step": self.at.step, "validation": self.history[-1]["validation"]}
        write_vocoder(self.job.folder, name, self.job.facts, self.averaged.state_dict(), **told)

    def _keep_epoch(self) -> None:
        """vocoder_epoch_XXXX and a sample: the first validation clip, spoken."""
        import io

        import soundfile

        self._write(f"vocoder_epoch_{self.at.epoch:04}")
        with torch.inference_mode():
            wave, _ = self._generate(self.averaged, Batch.of(self.validation[:1]))
        samples = wave[0, 0].float().cpu().numpy()
        data = io.BytesIO()
        soundfile.write(data, np.clip(samples, -1, 1), RATE_HZ, format="WAV", subtype="PCM_16")
        states.write_synced(self.job.folder / f"sample_epoch_{self.at.epoch:04}.wav", data.getvalue())
        self.board.audio(self.at.step, "sample", samples, RATE_HZ)

    def files(self) -> list[str]:
        """Names of all that belongs to this training, for the run."""
        kept = [
            row["epoch"]
            for row in self.history[1:]
            if row["epoch"] % self.spec.save_every == 0 or row is self.history[-1]
        ]
        names = [f"{FINAL}.safetensors", f"{FINAL}.json", f"{LATEST}.safetensors"]
        for epoch in kept:
            names += [f"vocoder_epoch_{epoch:04}.{ending}" for ending in ("safetensors", "json")]
            names.append(f"sample_epoch_{epoch:04}.wav")
        return [*names, self.board.path.relative_to(self.job.folder).as_posix()]


def discriminators(spec: VocoderSpec) -> Discriminators:
    """Those that the config asks for, as one."""
    parts: list[nn.Module] = []
    if spec.periods:
        parts.append(MultiPeriodDiscriminator(spec.periods, spec.discriminator_width))
    if spec.resolutions:
        parts.append(MultiResolutionDiscriminator(spec.resolutions, spec.discriminator_width))
    if spec.scales:
        parts.append(MultiScaleDiscriminator(spec.scales, width=spec.discriminator_width))
    return Discriminators(parts)


def training_log(trainer: Trainer) -> str:
    """training_log.json: one line an epoch; epoch 0 is the untrained network."""
    rows = ",\n  ".join(json.dumps(row) for row in trainer.history)
    head = {
        "collapse": bool(trainer.alarms),
        "alarms": trainer.alarms,
        "stopped": trainer.at.stopped or "all epochs done",
        "steps": trainer.at.step,
        "best_smoothed": trainer.at.best,
        "parameters": sum(p.numel() for p in trainer.generator.parameters()),
        "parameters_discriminators": sum(p.numel() for p in trainer.discriminator.parameters()),
    }
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "epochs": [\n  {rows}\n ]\n}}\n'


def _six(value: float) -> float:
    return float(f"{value:.6g}")
