"""Features that units are clusters of: one vector for every hop of the waveform.

Engines share one geometry, a `Grid`: frame i sees the samples [i * hop, i * hop + window) at 16 kHz, and a
clip of n samples has (n - window) // hop + 1 frames. So times are whole multiples of the hop and never drift.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voxmake.errors import ConfigError

RATE_HZ = 16000  # what every engine here listens at


@dataclass(frozen=True)
class Grid:
    """Where frames lie in the waveform, in samples at 16 kHz."""

    hop: int
    window: int

    def frames(self, samples: int) -> int:
        """How many frames so many samples have."""
        return max(0, (samples - self.window) // self.hop + 1)

    def time_s(self, frame: int) -> float:
        """Start of a frame's hop, in seconds: frame * hop / rate, rounded once."""
        return round(frame * self.hop / RATE_HZ, 6)

    @property
    def centre_s(self) -> float:
        """From the start of a frame's hop to the middle of what it sees."""
        return self.window / 2 / RATE_HZ


class Features(Protocol):
    """An engine that turns speech into frames."""

    grid: Grid
    dims: int

    def encode(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Mono float32 at 16 kHz, shapes (n,), to float32, shapes (frames, dims)."""
        ...


# ---------------------------------------------------------------------------- MFCC

_GRID = Grid(hop=320, window=400)  # 20 ms, 25 ms: the frames of wav2vec 2.0 and of a vocoder that upsamples by 320
_FFT = 512
_MELS = 40
_CEPSTRA = 13
_FLOOR = 1e-10  # of a mel band's power: -100 dB
_DELTA_SPAN = 2  # frames on either side that a slope is fitted to (HTK book, 5.9)


class Mfcc:
    """13 cepstra with first and second slopes, 39 dimensions at 50 Hz: what HuBERT's first iteration clusters.

    Pre-emphasis 0.97, Hamming window, 40 triangular mel bands from 20 Hz to 8 kHz (HTK's scale,
    2595 log10(1 + f / 700)), log, orthonormal DCT-II. HuBERT (arXiv 2106.07447) has the same at 100 Hz.

    Args:
        cmvn: "clip" scales every dimension to mean 0 and variance 1 over the clip, which takes away
            microphone and level, and part of the voice; "none" leaves it.
    """

    grid = _GRID
    dims = 3 * _CEPSTRA

    def __init__(self, cmvn: str = "clip"):
        from scipy.fft import dct

        self.cmvn = cmvn
        self.window = np.hamming(_GRID.window)
        self.bands = _mel_bands()
        self.dct = dct(np.eye(_MELS), type=2, norm="ortho", axis=0)[:_CEPSTRA]

    def encode(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._one(clip) for clip in clips]

    def _one(self, samples: np.ndarray) -> np.ndarray:
        x = np.asarray(samples, np.float64)
        x = np.append(x[:1], x[1:] - 0.97 * x[:-1])
        frames = np.lib.stride_tricks.sliding_window_view(x, _GRID.window)[:: _GRID.hop]
        power = np.abs(np.fft.rfft(frames * self.window, _FFT)) ** 2
        cepstra = np.log(np.maximum(power @ self.bands.T, _FLOOR)) @ self.dct.T
        slopes = _slope(cepstra)
        found = np.concatenate([cepstra, slopes, _slope(slopes)], axis=1)
        if self.cmvn == "clip":
            found = (found - found.mean(axis=0)) / np.sqrt(found.var(axis=0) + 1e-5)
        return found.astype(np.float32)


def _mel_bands() -> np.ndarray:
    """Triangles on the mel scale, shape (bands, FFT bins), each of height 1."""

    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    corners_hz = 700 * (10 ** (np.linspace(mel(20.0), mel(RATE_HZ / 2), _MELS + 2) / 2595) - 1)
    bins_hz = np.arange(_FFT // 2 + 1) * RATE_HZ / _FFT
    low, top, high = (corners_hz[start : start + _MELS, None] for start in range(3))
    return np.maximum(0, np.minimum((bins_hz - low) / (top - low), (high - bins_hz) / (high - top)))


def _slope(x: np.ndarray) -> np.ndarray:
    """Least-squares slope over 2 frames on either side, edges repeated; shape as x."""
    padded = np.pad(x, ((_DELTA_SPAN, _DELTA_SPAN), (0, 0)), mode="edge")
    n = len(x)
    rise = sum(
        step * (padded[_DELTA_SPAN + step :][:n] - padded[_DELTA_SPAN - step :][:n])
        for step in range(1, _DELTA_SPAN + 1)
    )
    return rise / (2 * sum(step * step for step in range(1, _DELTA_SPAN + 1)))


# ---------------------------------------------------------------------------- wav2vec 2.0 and its kin


class _Reached(Exception):
    """The wanted layer's input is there; nothing above it needs to run."""


class Transformer:
    """hidden_states[layer] of any wav2vec 2.0, XLSR, HuBERT, WavLM or UniSpeech of transformers.

    Layer 0 is what goes into the first transformer layer, layer n what comes out of the n-th, before any final
    normalisation. Layers above it are neither kept nor run. The waveform is normalised over the whole clip if the model's
    feature extractor says so (XLSR-53 needs it). Clips longer than a window are encoded in windows with
    a second of context on both sides, which is cut off again.

    A batch is padded and masked. Models with group normalisation (feat_extract_norm "group") normalise over time,
    padding included, and take no mask: of these only waveforms of one length share a batch.

    Args:
        folder: a local folder with config.json, preprocessor_config.json and model.safetensors.
        layer: 0 to the number of layers.
        batch: waveforms in one call of the model.
        window_s: longest stretch that is encoded at once, in seconds.
        precision: "float32", or "bfloat16" (autocast).

    Raises:
        ConfigError: the model has fewer layers, or listens at another rate.
    """

    context_s = 1.0

    def __init__(self, folder: str, layer: int, batch: int = 1, window_s: float = 20.0, precision: str = "float32"):
        import torch
        from transformers import AutoFeatureExtractor, AutoModel

        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="eager"
        )
        config = model.config
        if extractor.sampling_rate != RATE_HZ:
            raise ConfigError(f"{folder}: listens at {extractor.sampling_rate} Hz, units need {RATE_HZ} Hz")
        if layer > config.num_hidden_layers:
            raise ConfigError(f"units.layer {layer}: {folder} has {config.num_hidden_layers} layers")
        self.torch, self.batch, self.precision = torch, batch, precision
        self.normalise = bool(extractor.do_normalize)
        self.masked = config.feat_extract_norm == "layer"
        self.grid = _grid_of(config.conv_kernel, config.conv_stride)
        self.dims = config.hidden_size
        self.window = max(1, round(window_s * RATE_HZ) // self.grid.hop)  # in frames
        self.context = round(self.context_s * RATE_HZ) // self.grid.hop
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.caught: Any = None
        model.encoder.layers = torch.nn.ModuleList([*model.encoder.layers[:layer], self._catcher()])
        self.model = model.eval().to(self.device)

    def _catcher(self):
        outer = self

        class Catcher(self.torch.nn.Module):
            def forward(self, hidden, *args, **kwargs):
                outer.caught = hidden
                raise _Reached

        return Catcher()

    def encode(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        pieces = [piece for number, clip in enumerate(clips) for piece in self._windows(number, clip)]
        found: dict[tuple[int, int], np.ndarray] = {}
        for batch in self._batches(pieces):
            found |= self._run(batch)
        return [
            np.concatenate([found[key] for key in sorted(found) if key[0] == number]) for number in range(len(clips))
        ]

    def _windows(self, number: int, clip: np.ndarray) -> list[_Window]:
        """A clip as one window, or as several that share their borders' context."""
        x = np.asarray(clip, np.float32)
        if self.normalise:  # as Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
        frames = self.grid.frames(len(x))
        if frames <= self.window:
            return [_Window(number, 0, x, 0, frames)]
        windows = []
        for start in range(0, frames, self.window):
            stop = min(start + self.window, frames)
            first, last = max(0, start - self.context), min(frames, stop + self.context)
            end = (last - 1) * self.grid.hop + self.grid.window
            windows.append(_Window(number, start, x[first * self.grid.hop : end], start - first, stop - start))
        return windows

    def _batches(self, pieces: list[_Window]) -> list[list[_Window]]:
        pieces = sorted(pieces, key=lambda piece: len(piece.samples))
        batches: list[list[_Window]] = []
        for piece in pieces:
            fits = batches and len(batches[-1]) < self.batch
            if fits and (self.masked or len(batches[-1][0].samples) == len(piece.samples)):
                batches[-1].append(piece)
            else:
                batches.append([piece])
        return batches

    def _run(self, batch: list[_Window]) -> dict[tuple[int, int], np.ndarray]:
        """Hidden states of a batch; out of a GPU's memory the batch is halved."""
        try:
            hidden = self._hidden(batch)
        except self.torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            return self._run(batch[:half]) | self._run(batch[half:])
        return {
            (piece.clip, piece.start): row[piece.skip : piece.skip + piece.keep]
            for piece, row in zip(batch, hidden, strict=True)
        }

    def _hidden(self, batch: list[_Window]) -> np.ndarray:
        """Shape (batch, frames, dims), float32."""
        torch = self.torch
        lengths = [len(piece.samples) for piece in batch]
        values = torch.zeros(len(batch), max(lengths))
        for row, piece in zip(values, batch, strict=True):
            row[: len(piece.samples)] = torch.from_numpy(piece.samples)
        mask = None
        if min(lengths) < max(lengths):
            mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).to(self.device, torch.long)
        half = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device, dtype=torch.bfloat16, enabled=half):
            try:
                self.model(values.to(self.device), attention_mask=mask)
            except _Reached:
                hidden, self.caught = self.caught, None
        return hidden.float().cpu().numpy()


@dataclass(frozen=True)
class _Window:
    """A stretch of a clip: its first frame in the clip, context frames to skip, frames to keep."""

    clip: int
    start: int
    samples: np.ndarray
    skip: int
    keep: int


def _grid_of(kernels: Sequence[int], strides: Sequence[int]) -> Grid:
    """Hop and receptive field of a stack of convolutions without padding."""
    hop, window = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    return Grid(hop, window)


# What the configs of the whole family default to; transformers leaves defaults out of config.json.
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


def model_grid(folder: str) -> Grid:
    """The grid of a model's folder, from its config.json alone.

    Raises:
        ConfigError: there is none that can be read.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{path}: can't be read as JSON; give the folder of a transformers model") from None
    return _grid_of(config.get("conv_kernel", _KERNELS), config.get("conv_stride", _STRIDES))


@dataclass(frozen=True)
class FeatureSpec:
    """Which features, and all that decides their values: what a tokeniser is bound to."""

    engine: str
    cmvn: str
    layer: int
    window_s: float
    precision: str
    cache: str

    def load(self, model: str | None, batch: int = 1) -> Features:
        """The engine, ready to encode; `model` is the folder of a transformers model, `batch` clips go in together."""
        if self.engine == "mfcc":
            return Mfcc(self.cmvn)
        return Transformer(str(model), self.layer, batch, self.window_s, self.precision)

    @cached_property
    def convention(self) -> dict[str, Any]:
        """The facts in words, for kmeans.json."""
        if self.engine == "mfcc":
            return {"engine": "mfcc", "cmvn": self.cmvn, "stored_as": self.cache}
        return {
            "engine": "transformers",
            "layer": self.layer,
            "layer_convention": "hidden_states[layer]: 0 is the input of the first transformer layer",
            "window_s": self.window_s,
            "precision": self.precision,
            "stored_as": self.cache,
        }


def read_16k(path: str) -> np.ndarray:
    """A clip as mono float32 at 16 kHz, shape (n,)."""
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="float32")
    return to_16k(samples, rate_hz)


def to_16k(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resample mono float32 to 16 kHz."""
    if rate_hz == RATE_HZ:
        return samples
    import soxr

    return soxr.resample(samples, rate_hz, RATE_HZ).astype(np.float32)


def levels_db(samples: np.ndarray, grid: Grid) -> np.ndarray:
    """RMS level of each frame's hop in dB of full scale, shape (frames,), float32; silence is -100."""
    frames = grid.frames(len(samples))
    power = (np.asarray(samples, np.float64)[: frames * grid.hop].reshape(frames, grid.hop) ** 2).mean(axis=1)
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float32)
