"""TensorBoard's event file, written so that the same training gives the same bytes, killed and resumed or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NAME = "events.out.tfevents.0000000000.voxmake"


class Board:
    """Scalars, audio and images by step. An event's time is its step: clocks are no part of a result.

    Args:
        folder: gets one event file.
        resume_bytes: length of the file at the checkpoint that is resumed; what was written after it is cut off.
    """

    def __init__(self, folder: Path, resume_bytes: int = 0):
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self.path.touch()
        with self.path.open("r+b") as stream:
            stream.truncate(resume_bytes)
        self.stream = self.path.open("ab")
        self.records = RecordWriter(self.stream)
        if resume_bytes == 0:
            self._event(0, file_version="brain.Event:2")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._event(step, summary=Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]))

    def audio(self, step: int, tag: str, samples: np.ndarray, rate_hz: int) -> None:
        """Mono, -1 to 1, shape (n,)."""
        import io

        import soundfile
        from tensorboard.compat.proto.summary_pb2 import Summary

        data = io.BytesIO()
        soundfile.write(data, samples, rate_hz, format="WAV", subtype="PCM_16")
        audio = Summary.Audio(
            sample_rate=rate_hz, num_channels=1, length_frames=len(samples), encoded_audio_string=data.getvalue(),
            content_type="audio/wav",
        )  # fmt: skip
        self._event(step, summary=Summary(value=[Summary.Value(tag=tag, audio=audio)]))

    def size_bytes(self) -> int:
        """Length of the file, all written: what a checkpoint keeps."""
        self.stream.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        self.stream.close()

    def _event(self, step: int, **content) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=float(step), step=step, **content).SerializeToString())
