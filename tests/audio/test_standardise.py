"""Levels, peaks, resampling and length: what comes out is what the config asks for, measured."""

import io
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from conftest import voice
from scipy import signal

from voxmake.audio.level import (
    bandwidth_hz,
    clipped_samples,
    loudness_lufs,
    rms_db,
    sample_peak_db,
    to_db,
    true_peak,
)
from voxmake.audio.spec import AudioSpec
from voxmake.audio.standardise import standardise


def write(path, samples, rate_hz=16000, subtype="PCM_16"):
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def run(path, **keys):
    data, row = standardise(path, AudioSpec(**keys))
    return soundfile.read(io.BytesIO(data), dtype="float32")[0], row, data


@pytest.mark.parametrize("mode", ["rms", "lufs", "peak"])
@pytest.mark.parametrize("target_db", [-30.0, -23.0, -12.0])
def test_the_level_is_the_target(tmp_path, mode, target_db):
    samples, row, _ = run(
        write(tmp_path / "a.wav", voice(3.0, level=0.02)), level_mode=mode, target_db=target_db, true_peak_limit_db=0
    )
    measure = {"rms": rms_db, "peak": sample_peak_db, "lufs": lambda x: loudness_lufs(x, 16000)}[mode]
    if not row["peak_guard"]:
        assert measure(samples) == pytest.approx(target_db, abs=0.1)
    assert measure(samples) == pytest.approx(row["level_after_db"], abs=0.02)


def test_the_peak_guard_lowers_the_gain_and_says_so(tmp_path):
    crest = voice(2.0, level=0.01)
    crest[8000] = 0.9
    samples, row, _ = run(write(tmp_path / "a.wav", crest))
    assert row["peak_guard"] is True
    assert row["level_after_db"] < -20.1
    assert to_db(true_peak(samples)) == pytest.approx(-1.0, abs=0.05)
    loud, row, _ = run(tmp_path / "a.wav", normalize=False)
    assert (row["peak_guard"], row["gain_db"]) == (False, 0.0)
    assert loud[8000] == pytest.approx(0.9, abs=0.01)


def test_loudness_agrees_with_ffmpeg(tmp_path, real):
    for path in sorted((real / "kathleen_en" / "audio").iterdir())[:5] + sorted((real / "languages_mp3").iterdir())[:5]:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        write(tmp_path / "mono.wav", mono, rate_hz, "FLOAT")
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-nostdin",
            "-i",
            tmp_path / "mono.wav",
            "-af",
            "ebur128",
            "-f",
            "null",
            "-",
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        theirs = float(re.findall(r"I:\s+(-?[\d.]+) LUFS", told)[-1])
        assert loudness_lufs(mono, rate_hz) == pytest.approx(theirs, abs=0.1), path


def test_a_sine_of_997_hz_at_full_scale_is_minus_3_lufs():
    """The standard's own check: 0 dBFS, 997 Hz, one front channel reads -3.01 LKFS."""
    t = np.arange(48000 * 5) / 48000
    assert loudness_lufs(np.sin(2 * np.pi * 997 * t).astype(np.float32), 48000) == pytest.approx(-3.01, abs=0.02)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.39])
def test_a_clip_shorter_than_a_block_has_a_loudness(seconds):
    assert loudness_lufs(voice(seconds), 16000) == pytest.approx(loudness_lufs(voice(2.0), 16000), abs=4)


@pytest.mark.parametrize("seed", range(5))
def test_true_peak_agrees_with_sixteenfold_oversampling(seed):
    samples = voice(1.0, seed=seed)
    reference = np.abs(signal.resample_poly(samples.astype(np.float64), 16, 1, window=("kaiser", 14.0))).max()
    assert to_db(true_peak(samples)) == pytest.approx(to_db(float(reference)), abs=0.25)


def test_true_peak_sees_between_the_samples():
    """A quarter-rate sine at 45 degrees: samples at -3 dB, the peak between them at 0 dB."""
    samples = np.sin(np.pi / 2 * np.arange(4000) + np.pi / 4).astype(np.float32) * np.hanning(4000).astype(np.float32)
    assert sample_peak_db(samples) == pytest.approx(-3.01, abs=0.01)
    assert to_db(true_peak(samples)) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(48000, 16000), (44100, 16000), (44100, 22050), (8000, 22050), (16000, 22050)]
)
def test_images_and_aliases_stay_below_90_db(tmp_path, rate_in, rate_out):
    """A tone that the target can't hold leaves nothing behind; one that it can leaves only itself."""
    t = np.arange(rate_in * 2) / rate_in
    edge = np.minimum(1, np.minimum(t, t[::-1]) * 20)
    kept_hz = 0.2 * min(rate_in, rate_out)
    tone = 0.5 * edge * np.sin(2 * np.pi * kept_hz * t)
    if rate_out < rate_in:
        tone += 0.4 * edge * np.sin(2 * np.pi * 0.6 * rate_out * t)  # above the new Nyquist frequency
    keys = {"sample_rate_hz": rate_out, "normalize": False, "bit_depth": 24, "remove_dc": False}
    samples, _, _ = run(write(tmp_path / "a.wav", tone, rate_in, "FLOAT"), **keys)
    spectrum = np.abs(np.fft.rfft(samples * np.blackman(len(samples)))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / rate_out)
    away = np.abs(frequency - kept_hz) > 60
    assert 10 * np.log10(spectrum[away].max() / spectrum.max()) < -90


@pytest.mark.parametrize("rate_in", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("rate_out", [16000, 22050])
@pytest.mark.parametrize("frames", [9001, 12345, 300001])
def test_the_length_is_kept_within_one_sample(tmp_path, rate_in, rate_out, frames):
    samples, row, _ = run(write(tmp_path / "a.wav", voice(40.0, rate_in)[:frames], rate_in), sample_rate_hz=rate_out)
    assert abs(len(samples) / rate_out - frames / rate_in) <= 1 / rate_out
    assert row["duration_s"] == pytest.approx(len(samples) / rate_out, abs=1e-6)


def test_resampling_in_blocks_is_resampling(tmp_path):
    """Longer than one block: no seam, no drift."""
    import soxr

    long = voice(20.0, 48000)
    samples, _, _ = run(write(tmp_path / "a.wav", long, 48000, "FLOAT"), normalize=False, remove_dc=False, bit_depth=24)
    whole = soxr.resample(long, 48000, 16000, quality="HQ")
    assert np.abs(samples - whole[: len(samples)]).max() < 1e-5


def test_dc_is_removed_and_reported(tmp_path):
    samples, row, _ = run(write(tmp_path / "a.wav", voice(1.0) * 0.5 + 0.25))
    assert row["dc_offset"] == pytest.approx(0.25, abs=0.02)
    assert abs(samples.mean()) < 1e-4


def test_silence_is_trimmed_and_the_rest_kept(tmp_path):
    quiet = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 1e-4
    path = write(tmp_path / "a.wav", np.concatenate([quiet, voice(2.0), quiet[:8000]]))
    _, row, _ = run(path, trim_silence=True, trim_pad_s=0.1)
    assert row["trim_start_s"] == pytest.approx(0.9, abs=0.02)
    assert row["trim_end_s"] == pytest.approx(0.4, abs=0.02)
    assert row["duration_s"] == pytest.approx(3.5 - row["trim_start_s"] - row["trim_end_s"], abs=1e-4)
    assert run(path)[1]["trim_start_s"] == 0.0


def test_clipping_counts_runs_at_full_scale(tmp_path):
    assert clipped_samples(np.array([1, 1, 1, 0, 1, 0, -1, -1, -1, -1, 0.5], np.float32)) == 7
    clean = voice(1.0)
    assert run(write(tmp_path / "a.wav", clean))[1]["clipping_ratio"] == 0
    assert run(write(tmp_path / "b.wav", np.clip(clean * 30, -1, 1)))[1]["clipping_ratio"] > 0.1


@pytest.mark.parametrize("true_hz", [4000, 8000, 11025])
def test_bandwidth_tells_a_resampled_recording(true_hz):
    import soxr

    noise = np.random.default_rng(0).standard_normal(2 * true_hz * 4).astype(np.float32) * 0.1
    wide = soxr.resample(noise, 2 * true_hz, 44100)
    assert bandwidth_hz(wide, 44100) == pytest.approx(true_hz, rel=0.07)


@pytest.mark.parametrize("file_format", ["wav", "flac"])
@pytest.mark.parametrize("bit_depth", [16, 24])
def test_formats_hold_the_same_audio(tmp_path, file_format, bit_depth):
    path = write(tmp_path / "a.wav", voice(1.0))
    samples, row, data = run(path, file_format=file_format, bit_depth=bit_depth)
    assert soundfile.info(io.BytesIO(data)).subtype == f"PCM_{bit_depth}"
    assert soundfile.info(io.BytesIO(data)).format == file_format.upper()
    reference = run(path, bit_depth=24)[0]
    assert np.abs(samples - reference).max() <= 0.5 / 2 ** (bit_depth - 1) + 1e-7
    assert data == run(path, file_format=file_format, bit_depth=bit_depth)[2]  # the same bytes every time
    assert row["source_format"] == "wav/pcm_16"


def test_memory_holds_the_result_and_not_the_source(tmp_path):
    """Three minutes of 8-channel 48 kHz audio are 276 MB as float32; the clip itself is 11 MB."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 48000, 8, format="FLAC") as file:
        block = np.repeat((voice(10.0, 48000) * 32767).astype(np.int16)[:, None], 8, axis=1)
        for _ in range(18):
            file.write(block)
    script = (
        "import sys, pathlib; from voxmake.audio.spec import AudioSpec; from voxmake.audio.standardise import standardise;"
        "standardise(pathlib.Path(sys.argv[1]), AudioSpec());"
        # not ru_maxrss, which begins with that of the process that started this one
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, "-c", script, path], env=environment, check=True, capture_output=True, text=True
    )
    assert int(told.stdout) < 230  # MiB, of which about 110 are Python and its libraries


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [16000, 22050])
def test_every_real_recording(real, rate_hz):
    count = 0
    for folder in (
        "kathleen_en",
        "kerstin_de",
        "nathalie_nl",
        "ljspeech_en",
        "languages_mp3",
        "digits_fsdd",
        "meeting_ami",
    ):
        for path in sorted((real / folder).rglob("*")):
            if path.suffix in (".wav", ".flac", ".mp3", ".webm"):
                samples, row, _ = run(path, sample_rate_hz=rate_hz)
                count += 1
                assert row["peak_guard"] or rms_db(samples) == pytest.approx(-20, abs=0.1)
                assert abs(row["duration_s"] - row["source_duration_s"]) <= 1 / rate_hz + 1e-6
    assert count >= 500
