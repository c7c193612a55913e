"""The training loop of VITS: two optimisers, evaluations, checkpoints, and the reasons to stop.

Everything random derives from (seed, step), so a checkpoint holds no random state and a training that was killed goes
on as if nothing had been. Two trainings agree to the last digit on one machine with one number of threads; other
hardware adds up in another order.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxmake.errors import Failure
from voxmake.nets.world import World
from voxmake.vits import batches, memory, objective, voice
from voxmake.vits.job import Job

if TYPE_CHECKING:
    import torch

BETAS, DECAY, EPSILON = (0.8, 0.99), 0.01, 1e-9  # VITS' AdamW: arXiv 2106.06103, section 3.3, and its code
BAD_STEPS = 10  # steps in a row whose loss is not finite, after which training ends
VALIDATION_CLIPS = 32  # listened to at an evaluation, by the seed
LOSSES = ("loss", "mel", "kl", "duration", "adversarial", "features", "discriminator")


class Trainer:
    """One process of a training. A batch is dealt out to all of them, so its size is the same with one or with eight.

    Args:
        say: told of every line of the log.
    """

    def __init__(self, world: World, job: Job, say: Callable[[str], None]):
        import torch

        from voxmake.nets.board import Board
        from voxmake.nets.checkpoint import Checkpoint, unpack
        from voxmake.nets.losses import LogMel

        self.world, self.job, self.say, self.device = world, job, say, world.device
        spec = self.spec = job.spec
        torch.set_flush_denormal(True)  # HiFi-GAN's quiet starts are full of them: twice as fast on a CPU
        self.model, self.tokenizer = voice.load_voice(job.folder / "start")
        self.model.text_encoder.encoder.layerdrop = 0.0  # transformers' own; VITS has none
        self.hop = objective.hop_of(self.model.config)
        self._seed("start")
        self.judges = objective.discriminators(spec.discriminator_width).to(self.device).train()
        voice.apply_weight_norm(self.model)
        self.model.to(self.device).train()
        self.log_mel = LogMel(job.rate_hz, 2 * (self.model.config.spectrogram_bins - 1), self.hop).to(self.device)
        self.parts = {"generator": self.model, "discriminator": self.judges}
        self.optimisers = {
            name: torch.optim.AdamW(part.parameters(), spec.learning_rate, BETAS, EPSILON, DECAY)
            for name, part in self.parts.items()
        }
        half = self.device.type == "cuda" and spec.mixed_precision == "fp16"
        self.scalers = {name: torch.amp.GradScaler("cuda", enabled=half) for name in self.parts}
        self.step, self.log, self.evaluations, self.best = 0, [], [], []
        self.bad_steps, self.batch_size, self.rate = 0, spec.batch_size, 0.0
        self.checkpoint = Checkpoint(job.folder / "state.safetensors", job.identity, 0)
        board_bytes = 0
        if (kept := self.checkpoint.load()) is not None:
            arrays, facts = kept
            board_bytes = facts["board_bytes"]
            self._restore(unpack(arrays, facts["state"]), facts)
            self.say(f"resumed at step {self.step}")
        if self.batch_size is None:
            self.batch_size = world.share(self._find_batch_size())
            self.say(f"batch size {self.batch_size}, found from free memory")
        self.board = Board(job.folder / "tensorboard", board_bytes) if self.world.rank == 0 else None
        batches_per_epoch = len(batches.epoch_batches(job.train, self.batch_size, job.seed, 0))
        self.steps_per_epoch = math.ceil(batches_per_epoch / spec.gradient_accumulation_steps)
        epochs = spec.mini_epochs if spec.mode == "mini" else spec.num_epochs
        self.total_steps = min(epochs * self.steps_per_epoch, spec.max_steps or math.inf)
        self.times: deque[float] = deque(maxlen=50)

    # ------------------------------------------------------------------ the loop

    def train(self) -> dict[str, Any]:
        """Train to the end; returns, and writes as training_log.json, what happened.

        Raises:
            Failure: no room on the disk, or losses that are not finite. The last checkpoint is kept.
        """
        stopped = self._stopped()
        if not self.evaluations:
            self._evaluate()
        while stopped is None:
            epoch, at = divmod(self.step, self.steps_per_epoch)
            groups = self._groups(epoch)[at:]
            # A batch smaller than the world lends its first clip.
            rank, size = self.world.rank, self.world.size
            mine = [batch[rank::size] or batch[:1] for group in groups for batch in group]
            loaded = batches.read_ahead(mine, self.hop, self.job.loaders)
            for group in groups:
                begun = time.monotonic()
                losses = self._train_step([next(loaded) for _ in group], epoch)
                self.times.append(time.monotonic() - begun)
                self._after_step(losses, epoch)
                if (stopped := self._stopped()) is not None:
                    break
            loaded.close()
        return self._finish(stopped)

    def _groups(self, epoch: int) -> list[list[list[batches.Clip]]]:
        """Batches of an epoch, as many to a step as accumulate."""
        every = batches.epoch_batches(self.job.train, self.batch_size, self.job.seed, epoch)
        size = self.spec.gradient_accumulation_steps
        return [every[at : at + size] for at in range(0, len(every), size)]

    def _seed(self, *words: object) -> None:
        """All randomness of what follows."""
        import torch

        number = int(batches.random_of(self.job.seed, *words).integers(2**31))
        torch.manual_seed(number)
        np.random.seed(number)

    def _train_step(self, group: list[dict], epoch: int) -> dict[str, float]:
        """One step of both optimisers; the mean losses of its batches."""
        import torch

        self._seed("step", self.step, self.world.rank)
        rate = self.rate = self._learning_rate(epoch)
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        sums = dict.fromkeys(LOSSES, 0.0)
        for batch in group:
            for name, value in self._backward(batch, len(group)).items():
                sums[name] += value / len(group)
        finite = float(all(math.isfinite(value) for value in sums.values()))
        if self.world.mean(torch.tensor(finite, device=self.device)) < 1:
            self.bad_steps += 1
            for scaler in self.scalers.values():  # a smaller scale is what helps in half precision
                scaler.update(scaler.get_scale() / 2 if scaler.is_enabled() else None)
            if self.bad_steps >= BAD_STEPS:
                raise Failure(
                    f"step {self.step}: the loss was not finite {BAD_STEPS} times in a row; lower train_mms.learning_rate, "
                    "or set train_mms.mixed_precision to bf16 or no; the last checkpoint is kept"
                )
            return sums
        self.bad_steps = 0
        for name, part in self.parts.items():
            parameters = list(part.parameters())
            self.world.average_gradients(parameters)
            self.scalers[name].unscale_(self.optimisers[name])
            torch.nn.utils.clip_grad_norm_(parameters, self.spec.max_grad_norm)
            self.scalers[name].step(self.optimisers[name])
            self.scalers[name].update()
        return sums

    def _backward(self, batch: dict[str, torch.Tensor], of: int) -> dict[str, float]:
        """Gradients of one batch, for both sides; `of` batches make a step."""
        from voxmake.nets import losses

        spec = self.spec
        with self._autocast():
            made = objective.forward(self.model, self._here(batch), spec.segment_samples)
            real_logits, real_features = self.judges(made.real)
            judged = losses.discriminator_loss(real_logits, self.judges(made.fake.detach())[0])
        self.scalers["discriminator"].scale(judged / of).backward()
        self.judges.requires_grad_(False)
        with self._autocast():
            logits, features = self.judges(made.fake)
            mel = losses.mel_l1(self.log_mel, made.fake, made.real)
            adversarial = losses.generator_loss(logits)
            matching = losses.feature_matching(real_features, features)
            total = (
                spec.mel_weight * mel + spec.kl_weight * made.kl + spec.duration_weight * made.duration
                + spec.adversarial_weight * adversarial + spec.feature_weight * matching
            )  # fmt: skip
        self.scalers["generator"].scale(total / of).backward()
        self.judges.requires_grad_(True)
        values = (total, mel, made.kl, made.duration, adversarial, matching, judged)
        return {name: float(value.detach()) for name, value in zip(LOSSES, values, strict=True)}

    def _autocast(self) -> Any:
        import torch

        if self.device.type == "cpu" or self.spec.mixed_precision == "no":
            return nullcontext()
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[self.spec.mixed_precision]
        return torch.autocast("cuda", kind)

    def _here(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _learning_rate(self, epoch: int) -> float:
        warm = min(1.0, (self.step + 1) / max(self.spec.warmup_steps, 1))
        return self.spec.learning_rate * warm * self.spec.lr_decay**epoch

    # ------------------------------------------------------------------ between steps

    def _after_step(self, losses: dict[str, float], epoch: int) -> None:
        self.step += 1
        last = self.step >= self.total_steps
        if self.step % self.spec.logging_steps == 0 or last:
            values = {name: round(value, 6) for name, value in losses.items()}
            self.log.append({"step": self.step, "epoch": epoch, "lr": self.rate} | values)
            self.say(self._line(values, epoch))
            if self.board:
                self.board.scalars(self.step, {f"train/{name}": value for name, value in values.items()})
        every = self.spec.eval_steps or self.steps_per_epoch
        if self.step % every == 0 or last:
            self._evaluate()
        if self.step % self.spec.save_steps == 0 or last:
            self._save()

    def _line(self, values: dict[str, float], epoch: int) -> str:
        """One line of the log: every number in its column."""
        pace = sum(self.times) / len(self.times)
        left = round(pace * (self.total_steps - self.step))
        return (
            f"step {self.step:07d}/{self.total_steps:07d} ({100 * self.step / self.total_steps:6.2f} %) | epoch {epoch:5d} | "
            f"loss {values['loss']:9.3f} | mel {values['mel']:7.4f} | kl {values['kl']:9.3f} | dur {values['duration']:7.3f} | "
            f"adv {values['adversarial']:7.3f} | feat {values['features']:7.3f} | disc {values['discriminator']:7.3f} | "
            f"lr {self.rate:.2e} | {pace:7.3f} s | eta {left // 3600:3d}:{left // 60 % 60:02d}:{left % 60:02d}"
        )

    def _stopped(self) -> str | None:
        """Why training is over, or None."""
        if self.step >= self.total_steps:
            return "max_steps" if self.spec.max_steps == self.total_steps else "epochs"
        if self.spec.mode == "full" and self.evaluations:
            marks = [entry["mel"] for entry in self.evaluations]
            lowest, since = marks[0], 0
            for mark in marks[1:]:
                lowest, since = (mark, 0) if mark < lowest - self.spec.min_improvement else (lowest, since + 1)
            if since >= self.spec.patience:
                return "plateau"
        return None

    def _evaluate(self) -> None:
        """Validation losses, the sentences spoken, the best checkpoints kept. The first process alone works."""
        import torch

        if self.world.rank == 0:
            self.model.eval()
            with torch.no_grad():
                entry = {"step": self.step} | self._validate()
                spoken = self._speak()
            self.model.train()
            if self.spec.evaluate_cer and self.job.recogniser is not None:
                from voxmake.vits.measure import Ear

                entry["cer"] = round(Ear(self.job.recogniser, self.job.language).mean_cer(spoken, self.job.rate_hz), 6)
            self.evaluations.append(entry)
            if self.step:
                self._keep_best(entry)
            told = " ".join(f"{name} {value:.4f}" for name, value in entry.items() if name != "step")
            self.say(f"evaluation at step {self.step}: {told}")
            self.board.scalars(self.step, {f"validation/{k}": v for k, v in entry.items() if k != "step"})
            for number, (_, samples) in enumerate(spoken):
                self.board.audio(self.step, f"sentence {number}", samples, self.job.rate_hz)
        if self.world.size > 1:  # all of them must stop at one step
            self.evaluations = self.world.share(self.evaluations)

    def _validate(self) -> dict[str, float]:
        """Mean log-mel distance of rebuilt clips, KL and duration loss."""
        from voxmake.nets.losses import mel_l1

        order = batches.random_of(self.job.seed, "validation").permutation(len(self.job.validation))
        clips = [self.job.validation[n] for n in sorted(order[:VALIDATION_CLIPS])]
        sums = np.zeros(3)
        for number, clip in enumerate(clips):
            self._seed("validation", number)
            batch = self._here(batches.load_batch([clip], self.hop))
            made, parts = objective.rebuild(self.model, batch)
            real = batch["wave"].unsqueeze(1)[:, :, : made.shape[-1]]
            values = (
                mel_l1(self.log_mel, made, real),
                objective.kl_loss(parts),
                objective.duration_loss(self.model, parts),
            )
            sums += [float(value) for value in values]
        return dict(zip(("mel", "kl", "duration"), (round(float(x), 6) for x in sums / len(clips)), strict=True))

    def _speak(self) -> list[tuple[str, np.ndarray]]:
        """The sentences and their audio, float32, shape (n,)."""
        import torch

        spoken = []
        for number, text in enumerate(self.job.sentences):
            self._seed("sentence", number)
            tokens = torch.tensor([voice.tokens_of(self.tokenizer, text)], device=self.device)
            speaker = 0 if self.model.config.num_speakers > 1 else None
            made = self.model(input_ids=tokens, speaker_id=speaker).waveform[0]
            spoken.append((text, made.float().cpu().numpy()))
        return spoken

    def _keep_best(self, entry: dict[str, float]) -> None:
        """Save the weights if they are among the best by mel or CER, and delete those that no longer are."""
        wanted: set[int] = set()
        known = [entry, *self.best]
        for measure in ("mel", "cer"):
            ranked = sorted((e for e in known if measure in e), key=lambda e: (e[measure], e["step"]))
            wanted |= {e["step"] for e in ranked[: self.spec.keep_checkpoints]}
        self.best = [e for e in known if e["step"] in wanted]
        if entry["step"] in wanted:
            self._check_disk()
            voice.save_voice(voice.plain_copy(self.model), self.tokenizer, self._folder(entry["step"]))
        self._sweep(wanted)

    def _sweep(self, wanted: set[int]) -> None:
        for folder in (self.job.folder / "best").glob("step_*"):
            if int(folder.name.removeprefix("step_")) not in wanted:
                shutil.rmtree(folder)

    def _folder(self, step: int) -> Path:
        return self.job.folder / "best" / f"step_{step:07d}"

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.job.folder).free / 1e9
        if free < self.spec.min_free_disk_gb:
            raise Failure(
                f"{self.job.folder}: {free:.1f} GB free, less than train_mms.min_free_disk_gb; make room, then run again "
                "to go on from the last checkpoint"
            )

    # ------------------------------------------------------------------ state

    def _save(self) -> None:
        from voxmake.nets.checkpoint import pack

        if self.world.rank:
            return
        self._check_disk()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {f"optimiser of {name}": optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        state |= {f"scaler of {name}": scaler.state_dict() for name, scaler in self.scalers.items()}
        arrays, packed = pack(state)
        facts = {
            "state": packed, "step": self.step, "batch_size": self.batch_size, "log": self.log, "best": self.best,
            "evaluations": self.evaluations, "board_bytes": self.board.size_bytes(),
        }  # fmt: skip
        self.checkpoint.save(arrays, facts)

    def _restore(self, state: dict[str, Any], facts: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
            self.optimisers[name].load_state_dict(state[f"optimiser of {name}"])
            if self.scalers[name].is_enabled():
                self.scalers[name].load_state_dict(state[f"scaler of {name}"])
        self.step, self.batch_size = facts["step"], facts["batch_size"]
        self.log, self.evaluations = facts["log"], facts["evaluations"]
        self.best = [entry for entry in facts["best"] if self._folder(entry["step"]).is_dir()]
        if self.world.rank == 0:
            self._sweep({entry["step"] for entry in self.best})  # those saved after the checkpoint come again

    def _find_batch_size(self) -> int:
        """The largest power of two whose longest clips fit into the free memory, for the whole team."""
        longest = sorted(self.job.train, key=lambda clip: (-clip.samples, clip.id))
        limit = min(memory.MAX_BATCH, len(longest))
        used = []
        for count in (1, 2):
            self._seed("batch size")
            self._backward(batches.load_batch((longest * 2)[:count], self.hop), 1)
            used.append(memory.peak_bytes(self.device))
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        # The allocator hides small differences: activations of a frame are at least this many numbers wide.
        least = longest[0].samples // self.hop * self.model.config.hidden_size * 4 * 100
        each = max(used[1] - used[0], least)
        size = 1
        while 2 * size <= limit and 2 * size * each < memory.SHARE * memory.free_bytes(self.device):
            size *= 2
        return size * self.world.size

    def _finish(self, stopped: str) -> dict[str, Any]:
        if self.world.rank:
            return {}
        self.board.close()
        self.say(f"stopped after {self.step} steps ({stopped})")
        if not self.best:
            raise Failure(f"step {self.step}: training ended before an evaluation; raise train_mms.max_steps")
        measure = self.spec.select_by if all(self.spec.select_by in entry for entry in self.best) else "mel"
        chosen = min(self.best, key=lambda entry: (entry[measure], entry["step"]))
        told = {
            "stopped": stopped, "steps": self.step, "steps_per_epoch": self.steps_per_epoch,
            "batch_size": self.batch_size, "chosen": chosen, "chosen_by": measure, "best": self.best,
            "log": self.log, "evaluations": self.evaluations,
        }  # fmt: skip
        text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
        (self.job.folder / "training_log.json").write_text(text + "\n", encoding="utf-8")
        return told
