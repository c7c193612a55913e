"""Decode a recording block by block into mono, in this process or through ffmpeg.

Runs inside a worker process with limits on memory and CPU time: a codec that crashes takes only its
worker along. A decoder's word that all went well proves nothing (ffmpeg returns 0 on a truncated
MP3), so what came out is compared with what the header promised.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from voxmake.audio.probe import Probe, check_duration, check_format
from voxmake.audio.spec import AudioSpec
from voxmake.errors import Failure, Rejected

_BLOCK_FRAMES = 1 << 18
# Codec padding and rounding: decoded and declared length may differ by the larger of the two.
_LENGTH_TOLERANCE_S, _LENGTH_TOLERANCE_RATIO = 0.1, 0.01
# ffmpeg's demuxer for each container that libsndfile doesn't read; no other may open the file.
_DEMUXERS = {"matroska": "matroska,webm", "mp4": "mov,mp4,m4a,3gp,3g2,mj2", "adts": "aac", "amr": "amr", "asf": "asf"}


class Decoded:
    """A recording being decoded; iterate for mono blocks, float32, shape (n,), at the source's rate.

    Attributes:
        sample_rate_hz, channels: of the source, known before the first block.
        frames: decoded so far.
    """

    def __init__(self, path: Path, spec: AudioSpec, probe: Probe):
        self.path, self.spec, self.probe = path, spec, probe
        self.sample_rate_hz, self.channels, self.codec = probe.sample_rate_hz, probe.channels, probe.codec
        self.frames = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        blocks = self._soundfile() if self.probe.decoder == "soundfile" else self._ffmpeg()
        limit = None
        for block in blocks:
            if not np.isfinite(block).all():
                raise Rejected("not_finite")
            self.frames += len(block)
            limit = limit or self.spec.max_duration_s * self.sample_rate_hz
            if self.frames > limit:  # a header that doesn't say its length, or lies
                raise Rejected("too_long", f"more than {self.spec.max_duration_s:g} s")
            yield mono(block)
        self._check_length()

    def _check_length(self) -> None:
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.probe.size_bytes, self.probe.mtime_ns):
            raise Rejected("changed_while_read")
        duration_s = self.frames / self.sample_rate_hz if self.frames else 0.0
        declared_s = self.probe.duration_s
        if declared_s is not None:
            tolerance_s = max(_LENGTH_TOLERANCE_S, _LENGTH_TOLERANCE_RATIO * declared_s)
            if abs(duration_s - declared_s) > tolerance_s:
                reason = "truncated" if duration_s < declared_s else "duration_mismatch"
                raise Rejected(reason, f"decoded {duration_s:.3f} s, declared {declared_s:.3f} s")
        check_duration(duration_s, self.spec)

    def _soundfile(self) -> Iterator[np.ndarray]:
        try:
            with soundfile.SoundFile(self.path) as file:
                while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    yield block
        except soundfile.LibsndfileError as error:
            raise Rejected("undecodable", error.error_string) from None

    def _ffmpeg(self) -> Iterator[np.ndarray]:
        """A float WAV from ffmpeg's stdout: its header tells rate and channels, which WebM's may not."""
        import ffmpeg  # ffmpeg-python
        import imageio_ffmpeg

        stream = (
            ffmpeg.input(
                f"file:{self.path.absolute()}",
                protocol_whitelist="file,pipe",
                format_whitelist=_DEMUXERS[self.probe.container],
                err_detect="explode",
            )
            .output(
                "pipe:",
                map="0:a:0",
                format="wav",
                acodec="pcm_f32le",
                vn=None,
                sn=None,
                dn=None,
                t=self.spec.max_duration_s + 1,
            )
            .global_args("-nostdin", "-v", "error", "-xerror")
        )
        process = subprocess.Popen(
            stream.compile(cmd=imageio_ffmpeg.get_ffmpeg_exe()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield from self._wav_blocks(process.stdout)
            told = process.stderr.read().decode(errors="replace")
            # Said of every live WebM; whether it was cut off, the probe has seen by its blocks.
            told = told if f"File ended prematurely at pos. {self.probe.size_bytes} " not in told else ""
            if process.wait() != 0 or told:
                reason = "truncated" if "prematurely" in told or "moov atom not found" in told else "undecodable"
                raise Rejected(reason, _first_line(told) or f"ffmpeg ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def _wav_blocks(self, pipe: IO[bytes]) -> Iterator[np.ndarray]:
        head = pipe.read(12)
        if len(head) < 12:
            return  # ffmpeg says why on stderr
        while (name := pipe.read(4)) != b"data":
            size = int.from_bytes(pipe.read(4), "little")
            body = pipe.read(size + size % 2)
            if name == b"fmt ":
                self.channels, self.sample_rate_hz = (
                    int.from_bytes(body[2:4], "little"),
                    int.from_bytes(body[4:8], "little"),
                )
            if not body and not name:
                raise Failure("ffmpeg made no WAV; run again with --verbose")
        pipe.read(4)
        check_format(self.sample_rate_hz, self.channels, self.spec)
        frame_bytes = 4 * self.channels
        while data := pipe.read(_BLOCK_FRAMES * frame_bytes):
            whole = len(data) // frame_bytes * frame_bytes
            yield np.frombuffer(data[:whole], np.float32).reshape(-1, self.channels)


def _first_line(text: str) -> str:
    """ffmpeg's first complaint, without the address and without the path."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return line.rpartition("] ")[2].replace(os.sep, "/").split(": /")[0][:200]


def mono(block: np.ndarray) -> np.ndarray:
    """The mean of the channels of (frames, channels); for stereo without numpy's slow mean over short rows."""
    if block.shape[1] == 1:
        return block[:, 0]
    if block.shape[1] == 2:
        return (block[:, 0] + block[:, 1]) * np.float32(0.5)
    return block.mean(axis=1)
