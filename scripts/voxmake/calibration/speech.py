"""Scripts to MP3, by the workers of the tts stage: the same voices, pieces and levels as any programme's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxmake.calibration.words import words
from voxmake.run.work import Item, Limits
from voxmake.tts.engine import seed_of

if TYPE_CHECKING:
    from voxmake.run.run import Run

TAKES = "takes"  # folder of raw samples, left out when the run is published


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        spec: section `tts`; speak, finish: the workers of scripts/tts.py; lexicon: as they read it.
    """

    spec: Any
    speak: type
    finish: type
    lexicon: dict[str, str]

    def say(self, run: Run, name: str, scripts: Mapping[str, str], language: str) -> dict[str, dict]:
        """File and length of each script's audio, `file_name` and `duration_s`; what the voice can't say is missing."""
        payloads = {
            f"{name}/{key}": {
                "text": text, "language": language, "voice": self.spec.voice, "take": 1,
                "seed": seed_of(run.config.seed, text, 1), "name": f"{TAKES}/{name}/{key}.f32",
            }
            for key, text in scripts.items()
            if words(text)
        }  # fmt: skip
        spec = self.spec.model_dump(mode="json") | {"file_format": "mp3"}
        todo = [Item(key, one, cost=len(one["text"]), source=key) for key, one in payloads.items()]
        args = {"spec": spec, "lexicon": self.lexicon}
        takes = run.map(todo, self.speak, args, Limits(), "scripts", again=True, on_gpus=self.spec.engine != "espeak")
        for key, row in takes.items():
            if row["error"]:
                run.log.warning("%s: not spoken: %s", key, row["error"])
        about = {"comment": f"voxmake: {self.spec.engine}; a machine speaks"}
        good = [
            Item(
                key,
                {
                    "path": str(run.path / payloads[key]["name"]), "rate_hz": row["rate_hz"],
                    "tags": {"title": key} | about, "name": f"{key}_audio.mp3",
                },
                source=key,
            )
            for key, row in takes.items()
            if not row["error"]
        ]  # fmt: skip
        rows = run.map(good, self.finish, {"spec": spec}, Limits(), "clips", again=True)
        return {
            key.rpartition("/")[2]: {"file_name": f"{key}_audio.mp3", "duration_s": row["duration_s"]}
            for key, row in rows.items()
        }
