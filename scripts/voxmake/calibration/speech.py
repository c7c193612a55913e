"""Scripts to MP3: the voice of a tts engine, encoded so that the same samples give the same bytes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxmake.run.worker import Output

_BIT_RATE = "32k"


class Speak:
    """Worker: a script in, an MP3 and its length out."""

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `text`, `file_name`. Row: file_name, duration_s."""
        from voxmake.calibration.listen import length_s

        path = output.path(payload["file_name"])
        wav = path.with_suffix(".wav")
        speak(payload["text"], wav)
        encode_mp3(wav, path)
        wav.unlink()
        data = path.read_bytes()
        output.write(payload["file_name"], data)
        return {"file_name": payload["file_name"], "duration_s": round(length_s(path), 3)}


def speak(text: str, out_path: Path) -> None:
    import espeakng_loader
    import numpy as np
    import soundfile

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    pieces: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def took(wave, count, _events):
        if wave and count:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(took)
    data = text.encode()
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
    library.espeak_Synchronize()
    soundfile.write(out_path, np.concatenate(pieces) if pieces else np.zeros(0, np.int16), rate_hz)


def encode_mp3(wav: Path, mp3: Path) -> None:
    """A WAV as MP3; the encoder's name and the time stay out of the file."""
    import imageio_ffmpeg

    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-i", f"file:{wav}", "-ac", "1", "-b:a",
            _BIT_RATE, "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-f", "mp3", f"file:{mp3}",
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
