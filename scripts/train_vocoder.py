"""Train a vocoder: units of speech in, speech at 16 kHz out.

    python scripts/train_vocoder.py --config configs/demo.yaml
    make train_vocoder CONFIG=configs/demo.yaml SET='vocoder.generator=hifigan vocoder.epochs=200'
    torchrun --nproc-per-node 2 scripts/train_vocoder.py --config configs/demo.yaml   # several GPUs, or processes of a CPU

Reads the units of encode_units and the clips of segment. A clip in ten is held out for validation, another for
evaluate_vocoder (split.csv). The state is saved every `execution.checkpoint_every_s`; a killed run goes on to the same
loss curve. With several `execution.gpus` it starts torchrun by itself. Writes vocoder_final (the best by validation),
vocoder_latest (all that training could go on from), vocoder_epoch_XXXX and sample_epoch_XXXX.wav every `save_every`
epochs, training_log.json, tensorboard/.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from voxmake.errors import BadInput, ConfigError
from voxmake.nets.world import World, choose_gpus, follow, under_torchrun
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits
from voxmake.vocoder.spec import VocoderSpec

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output
    from voxmake.units.corpus import Corpus
    from voxmake.vocoder.job import Job

STAGE = Stage(
    name="train_vocoder",
    version=1,
    summary="train a vocoder from units to speech",
    sections={"vocoder": VocoderSpec},
    after=("encode_units", "segment"),
    seeded=True,
)

SCRATCH = ".waves"  # clips at 16 kHz, for the time of the run
SMALL_DIM = 256
SPLIT_COLUMNS = ("id", "file_name", "part", "speaker", "units")


class Prepare:
    """Worker: a clip in, its samples at 16 kHz, and pitch if asked for, as raw files out."""

    def __init__(self, hop: int, pitch: bool):
        self.hop, self.pitch = hop, pitch

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path`, `name` of its files without ending, `frames`."""
        import numpy as np

        from voxmake.units.features import RATE_HZ, read_16k
        from voxmake.vocoder.data import FULL_SCALE, pitch_of

        samples = read_16k(payload["path"])[: payload["frames"] * self.hop]
        levels = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        output.write(f"{payload['name']}.wave", levels.astype("<i2").tobytes())
        if self.pitch:
            pitch = pitch_of(samples, payload["frames"], self.hop, RATE_HZ)
            output.write(f"{payload['name']}.pitch", pitch.astype("<f4").tobytes())
        return {}


def work(run: Run, world: World | None) -> None:
    """`world`: of torchrun, or None."""
    from voxmake.units.corpus import read_corpus
    from voxmake.vocoder.training import LATEST, Trainer, training_log

    spec = run.config.vocoder
    corpus = read_corpus(run.inputs["encode_units"].path)
    if spec.hop() not in (None, corpus.hop_samples):
        raise ConfigError(
            f"vocoder.upsample_rates: make {spec.hop()} samples of a unit, the tokeniser has {corpus.hop_samples}"
        )
    rows = [row for row in run.inputs["segment"].rows() if row["id"] in corpus.units][: run.limit]
    prepare(run, corpus, rows)
    job = job_of(run, corpus, rows)
    if world is None:
        choose_gpus(run.config.execution.gpus)
        world = World(job.threads)
    world.share(job)
    trainer = Trainer(world, job, run.log.info)
    run.log.info(
        "%d clips to train on, %d to validate; %d crops use each of them once; on %s, %d of %d",
        len(job.train), len(job.validation), trainer.crops.round_size, world.device, world.rank + 1, world.size,
    )  # fmt: skip
    trainer.run()
    run.notes["training"] = {
        "device": str(world.device),
        "processes": world.size,
        "threads": job.threads,
        "steps_per_s": round(trainer.steps_timed / trainer.seconds, 3) if trainer.seconds else None,
    }
    for name in trainer.files():
        run.add_file(name)
    run.write_json(f"{LATEST}.json", {"identity": job.identity, **vars(trainer.at)})
    run.write_text("training_log.json", training_log(trainer))
    write_stats(run, trainer)
    run.leave_out(SCRATCH)
    run.publish(rows_out=len(rows))


def prepare(run: Run, corpus: Corpus, rows: list[dict]) -> None:
    """Waveforms of all clips, on the units' grid."""
    spec, source = run.config.vocoder, run.inputs["segment"]
    items = [
        Item(
            id=row["id"],
            payload={
                "path": str(source.path / row["file_name"]),
                "name": scratch_name(row),
                "frames": len(corpus.units[row["id"]]),
            },
            cost=float(row["duration_s"]),
            source=row["source"],
        )
        for row in rows
    ]
    run.map(items, Prepare, {"hop": corpus.hop_samples, "pitch": spec.f0}, Limits(), "clips")


def scratch_name(row: dict) -> str:
    return f"{SCRATCH}/{row['file_name'].rpartition('.')[0]}"


def job_of(run: Run, corpus: Corpus, rows: list[dict]) -> Job:
    """What every process is given; writes split.csv and the speakers."""
    from voxmake.vocoder.data import Clip, held_out
    from voxmake.vocoder.job import Job
    from voxmake.vocoder.model import Facts

    spec = run.config.vocoder
    try:
        part = held_out([row["id"] for row in rows], spec.validation_clips, spec.test_clips, run.config.seed)
    except ValueError as error:
        raise BadInput(f"train_vocoder: {error}") from None
    speakers = sorted({row["speaker"] for row in rows}) if spec.speakers else []
    clips: dict[str, list[Clip]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        name = scratch_name(row)
        clips[part[row["id"]]].append(
            Clip(
                row["id"],
                corpus.units[row["id"]],
                run.path / f"{name}.wave",
                run.path / f"{name}.pitch" if spec.f0 else None,
                speakers.index(row["speaker"]) if speakers else 0,
            )
        )
    run.write_table(
        "split.csv",
        SPLIT_COLUMNS,
        ([row["id"], row["file_name"], part[row["id"]], row["speaker"], len(corpus.units[row["id"]])] for row in rows),
    )
    clusters = json.loads((run.inputs["encode_units"].path / "kmeans.json").read_text(encoding="utf-8"))["clusters"]
    facts = Facts(corpus.tokeniser, clusters, corpus.hop_samples, speakers, spec)
    text = json.dumps([facts.to_json(), run.config.seed, [run.digest(f"{scratch_name(row)}.wave") for row in rows]])
    execution = run.config.execution
    # Small networks have too little to do in each operation: threads would wait for each other. Take processes instead.
    cores = 1 if spec.dim <= SMALL_DIM else len(os.sched_getaffinity(0))
    return Job(
        run.path, facts, hashlib.sha256(text.encode()).hexdigest(), clips["train"], clips["validation"],
        run.config.seed, execution.checkpoint_every_s, execution.workers or cores,
    )  # fmt: skip


def write_stats(run: Run, trainer: Any) -> None:
    history = trainer.history
    first, best = history[0]["validation"], min(row["validation"] for row in history[1:])
    run.stat("epochs", trainer.at.epoch, "epochs", "how many were trained")
    run.stat("steps", trainer.at.step, "steps", "of both sides together")
    run.stat("validation_start", first, "1", "45 x log-mel L1 on the validation clips before training")
    run.stat("validation_best", best, "1", "the same, of the best epoch")
    run.stat("validation_fall", round(1 - best / first, 4), "1", "by which part it fell")
    run.stat("collapse_alarms", len(trainer.alarms), "alarms", "how often the discriminators had won")
    run.stat("parameters", sum(p.numel() for p in trainer.generator.parameters()), "parameters", "of the generator")


def take_part(world: World, job: Job) -> None:
    """A job of rank 0, in another process."""
    from voxmake.vocoder.training import Trainer

    Trainer(world, job, lambda line: None).run()


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
