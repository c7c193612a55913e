"""Loudness, peaks and files, measured by ffmpeg's ebur128 and not by the code that made them."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from conftest import voice

from voxmake.audio.master import encode, master
from voxmake.errors import Rejected

TAGS = {"title": "A = B; ‘C’", "artist": "julie", "comment": "a machine speaks"}


def measured(path):
    """Integrated loudness in LUFS and true peak in dBTP."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-i",
        str(path),
        "-af",
        "ebur128=peak=true",
        "-f",
        "null",
        "-",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    summary = told[told.rindex("Integrated loudness") :]
    return float(re.search(r"I:\s+(\S+) LUFS", summary)[1]), float(re.search(r"Peak:\s+(\S+) dBFS", summary)[1])


def spiky(rate):
    """Speech with peaks 25 dB above its loudness: it reaches no -16 LUFS without a limiter."""
    clip = voice(4.0, rate, level=0.02)
    clip[rate // 2 :: rate // 3] = 0.9
    return clip


@pytest.mark.parametrize("kind", ["wav", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_loudness_and_peak(tmp_path, kind, rate):
    for number, clip in enumerate((voice(4.0, rate, level=0.3), voice(1.5, rate, level=0.001), spiky(rate))):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(encode(master(clip, rate, -16.0, -1.0), rate, kind, 96, TAGS))
        loudness, peak = measured(path)
        assert abs(loudness + 16) <= 0.5
        # Coding shifts peaks: a sharp click that was limited to -1.1 dBTP comes out of MP3 higher.
        assert peak <= (-0.9 if kind == "wav" else 0.5)


@pytest.mark.parametrize("kind", ["wav", "mp3", "opus"])
def test_same_bytes_and_tags(tmp_path, kind):
    clip = master(voice(1.0, 22050), 22050, -16.0, -1.0)
    data = encode(clip, 22050, kind, 64, TAGS)
    assert data == encode(clip, 22050, kind, 64, TAGS)
    (tmp_path / f"a.{kind}").write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-i", str(tmp_path / f"a.{kind}"), "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr.partition("Output #0")[0].lower()
    for tag in ("artist", "julie", "a machine speaks", "a = b; ‘c’"):
        assert tag in told
    if kind == "wav":
        info = soundfile.info(tmp_path / "a.wav")
        assert (info.frames, info.samplerate, info.subtype) == (len(clip), 22050, "PCM_16")


def test_what_cant_be_levelled_is_refused():
    with pytest.raises(Rejected, match="silent"):
        master(np.zeros(16000, np.float32), 16000, -16.0, -1.0)
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    with pytest.raises(Rejected, match="can't be reached"):
        master(noise * 0.1, 16000, -5.0, -9.0)
