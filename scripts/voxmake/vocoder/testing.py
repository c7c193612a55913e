"""One test clip through a vocoder and beside its baselines: the worker of evaluate_vocoder, and the table it makes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from voxmake.vocoder.measures import BASELINES, MEASURES

if TYPE_CHECKING:
    import numpy as np

    from voxmake.run.worker import Output

SYSTEMS = ("vocoder", *BASELINES)


class Examine:
    """Worker: a clip in; the pair, its spectrograms, and every measure of every system out.

    Args:
        vocoder: folder of a run of train_vocoder.
        units: folder of a run of encode_units.
        model: folder of its transformers model, or None.
    """

    def __init__(self, vocoder: str, units: str, model: str | None, seed: int):
        self.folders, self.model, self.seed, self.vocoder = (Path(vocoder), Path(units)), model, seed, None

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `path` of the clip, `another` of the other utterance, `units`, `speaker`, `number` of the pair."""
        import numpy as np
        import torch

        from voxmake.units.features import RATE_HZ, read_16k
        from voxmake.units.tokeniser import open_tokeniser
        from voxmake.vocoder.data import pitch_of
        from voxmake.vocoder.measures import analyse, baseline, compare, unit_error
        from voxmake.vocoder.model import Vocoder

        if self.vocoder is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self.vocoder, self.tokeniser = Vocoder(self.folders[0], device=device), open_tokeniser(self.folders[1])
        hop, units = self.tokeniser.grid.hop, np.array(payload["units"])
        wave = read_16k(payload["path"])[: len(units) * hop]
        facts = self.vocoder.facts
        pitch = pitch_of(wave, len(units), hop, RATE_HZ) if facts.spec.f0 else None
        speaker = payload["speaker"] if facts.speakers else None
        made = {
            "vocoder": self.vocoder.speak(units, self.tokeniser.facts()["tokeniser"], speaker, pitch),
            "another": read_16k(payload["another"]),
        }
        analysed, found = analyse(wave), {}
        for name in SYSTEMS:
            if name not in made:
                made[name] = baseline(name, wave, [self.seed, payload["number"]])
            again = self.tokeniser.encode(made[name], RATE_HZ, self.model)
            measured = compare(wave, made[name], analysed) | {"unit_error": unit_error(units, again)}
            found[name] = {key: None if value is None else float(f"{value:.5g}") for key, value in measured.items()}
        number = f"{payload['number']:04}"
        for name, samples in (("orig", wave), ("synth", made["vocoder"])):
            output.write(f"{name}_{number}.wav", wav_bytes(samples, RATE_HZ))
        output.write(f"pair_{number}.png", spectrograms({"original": wave, "vocoder": made["vocoder"]}))
        return {"systems": found, "seconds": round(len(wave) / RATE_HZ, 3)}


def wav_bytes(samples: np.ndarray, rate_hz: int) -> bytes:
    import numpy as np
    import soundfile

    data = io.BytesIO()
    soundfile.write(data, np.clip(samples, -1, 1), rate_hz, format="WAV", subtype="PCM_16")
    return data.getvalue()


def spectrograms(waves: Mapping[str, np.ndarray]) -> bytes:
    """PNG: log-mel spectrograms one above the other, on one scale."""
    import matplotlib as mpl
    import torch

    from voxmake.nets.losses import LogMel
    from voxmake.units.features import RATE_HZ

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mel = LogMel(RATE_HZ, high_hz=8000.0)
    figure, rows = plt.subplots(len(waves), 1, figsize=(9, 2.2 * len(waves)), sharex=True, layout="constrained")
    for axes, (name, wave) in zip(rows, waves.items(), strict=True):
        image = mel(torch.from_numpy(wave)[None])[0].numpy()
        axes.imshow(
            image, origin="lower", aspect="auto", vmin=-10, vmax=1.5, cmap="magma",
            extent=(0, len(wave) / RATE_HZ, 0, 80),
        )  # fmt: skip
        axes.set(ylabel=f"{name}\nmel band")
    rows[-1].set(xlabel="seconds")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=80, metadata={"Software": None})
    plt.close(figure)
    return data.getvalue()


# ---------------------------------------------------------------------------- the table


def totals(files: Sequence[Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict[str, dict[str, float] | None]]:
    """Mean, deviation and count of each measure of each system, over the files where it could be taken."""
    found: dict[str, dict[str, dict[str, float] | None]] = {}
    for name in SYSTEMS:
        found[name] = {}
        for key in MEASURES:
            values = [value for file in files if (value := file[name].get(key)) is not None]
            found[name][key] = (
                {
                    "mean": round(fmean(values), 4),
                    "deviation": round(stdev(values), 4) if len(values) > 1 else 0.0,
                    "files": len(values),
                }
                if values
                else None
            )
    return found


def checks(total: Mapping[str, Mapping[str, Mapping[str, float] | None]]) -> list[tuple[str, float, str, float]]:
    """The gate: on no measure may the vocoder be worse than an utterance that says something else."""
    found = []
    for key, measure in MEASURES.items():
        ours, others = total["vocoder"][key], total["another"][key]
        if measure.gated and measure.better and ours and others:
            relation = "<=" if measure.better == "lower" else ">="
            found.append((f"{key}_against_another_utterance", ours["mean"], relation, others["mean"]))
    return found


def page(title: str, facts: Sequence[tuple[str, str]], total: Mapping, pairs: Sequence[Mapping], verdict: str) -> str:
    """index.html: the table of systems, then every pair with players and spectrograms."""
    import jinja2

    def told(name: str, key: str) -> dict[str, Any]:
        one = total[name][key]
        return {
            "text": "–" if one is None else f"{one['mean']:.3g}",
            "title": "" if one is None else f"± {one['deviation']:.3g}, {one['files']} files",
        }

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    arrows = {"lower": "↓", "higher": "↑", "": ""}
    rows = [
        {
            "key": key,
            "arrow": arrows[measure.better],
            "unit": measure.unit,
            "meaning": measure.meaning,
            "cells": [told(name, key) for name in SYSTEMS],
        }
        for key, measure in MEASURES.items()
        if any(total[name][key] for name in SYSTEMS)
    ]
    meanings = {"vocoder": "units of the original, spoken"} | BASELINES
    systems = [{"name": name.replace("_", "-"), "meaning": meanings[name]} for name in SYSTEMS]
    return environment.get_template("page.html.j2").render(
        title=title, verdict=verdict, facts=facts, rows=rows, systems=systems, pairs=pairs
    )
