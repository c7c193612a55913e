"""espeak-ng, in this process through ctypes: the library and its data are in espeakng-loader's wheel."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from voxmake.errors import Failure, Rejected

if TYPE_CHECKING:
    import numpy as np

# espeak-ng's speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _RATE, _POS_CHARACTER = 2, 0x8000, 1, 1, 1
_WORDS_PER_MINUTE = 150  # 175 is its default; pocketsphinx understands this better
_SLOWER = 0.93  # espeak draws no random numbers: another take is a little slower
_DEFAULT = "en-us+klatt3"  # of all variants the one that pocketsphinx understands best
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """One for each process: the library keeps its state in globals."""

    watermark = "none"

    def __init__(self, speed: float):
        import espeakng_loader

        self.speed = speed
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate_hz: int = self.library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if self.rate_hz <= 0:
            raise Failure("tts.engine: espeak can't read its data; install espeakng-loader again")
        self.parts: list[bytes] = []
        self.callback = _CALLBACK(self._take)  # kept: the library holds only its address
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self.parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    def begin(self, voice: str | None, seed: int, take: int) -> None:
        if self.library.espeak_SetVoiceByName((voice or _DEFAULT).encode()) != 0:
            raise Failure(f"tts.voice: espeak knows no {voice}; `espeak-ng --voices` lists them, +f2 is a variant")
        self.library.espeak_SetParameter(_RATE, round(_WORDS_PER_MINUTE * self.speed * _SLOWER ** (take - 1)), 0)

    def speak(self, text: str) -> np.ndarray:
        """In a fork: espeak's noise and flutter go on from what was said before, and only a process resets them."""
        import numpy as np

        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with os.fdopen(writing, "wb") as stream:
                    stream.write(self._synthesise(text))
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            data = stream.read()
        _, status = os.waitpid(child, 0)
        if status != 0 or not data:
            raise Rejected("speech_failed", "espeak said nothing")
        return np.frombuffer(data, np.int16).astype(np.float32) / 32768

    def _synthesise(self, text: str) -> bytes:
        self.parts.clear()
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _UTF8, None, None)
        return b"".join(self.parts)
