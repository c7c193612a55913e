"""Copying one recording: whole, cut, and every way the file can change between listing and reading.

.venv/core/bin/python -m pytest tests/sources/test_source_fetch.py
"""

import errno
import hashlib
import os
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from voxmake.errors import Rejected
from voxmake.sources import Recording, fetch
from voxmake.sources.header import declared_duration_s, wav_layout

SCRIPTS = Path(__file__).parents[2] / "scripts"


def recording(path, **fields):
    return Recording(id="a", transcription="", speaker="", language="", where="metadata.csv:1", path=path, **fields)


def wav(path, frames=8000, channels=1, width=2, rate_hz=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(bytes(i % 251 for i in range(frames * channels * width)))
    return path


def reason_of(recording_, target):
    with pytest.raises(Rejected) as caught:
        fetch(recording_, target)
    assert not target.exists()
    return caught.value.reason


def test_copy_is_exact_and_replaces_what_a_killed_run_left(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "a.webm").write_bytes(content)
    (tmp_path / "target").write_bytes(b"left over" * 1_000_000)
    assert fetch(recording(tmp_path / "a.webm"), tmp_path / "target") == (
        hashlib.sha256(content).hexdigest(),
        3_000_000,
    )
    assert (tmp_path / "target").read_bytes() == content


def test_what_took_the_files_place_is_not_read(tmp_path):
    path, target = tmp_path / "a.wav", tmp_path / "target"
    assert reason_of(recording(path), target) == "missing_file"
    path.symlink_to(wav(tmp_path / "other.wav"))
    assert reason_of(recording(path), target) == "not_regular_file"
    path.unlink()
    os.mkfifo(path)
    assert reason_of(recording(path), target) == "not_regular_file"
    path.unlink()
    path.mkdir()
    assert reason_of(recording(path), target) == "not_regular_file"


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_a_file_that_changes_while_it_is_read_is_rejected(change, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(3_000_000))
    monkeypatch.setattr("voxmake.sources.fetching.CHUNK_BYTES", 1_000_000)
    sha256 = hashlib.sha256

    class Changing:
        """Changes the file after the first chunk."""

        def __init__(self):
            self._digest, self._seen = sha256(), 0

        def update(self, chunk):
            self._seen += 1
            if self._seen == 1:
                if change == "touch":
                    os.utime(path, ns=(1, 1))
                else:
                    os.truncate(path, 4_000_000 if change == "grow" else 1_500_000)
            self._digest.update(chunk)

        def hexdigest(self):
            return self._digest.hexdigest()

    monkeypatch.setattr("voxmake.sources.fetching.hashlib.sha256", Changing)
    assert reason_of(recording(path), tmp_path / "target") == "changed_while_read"


def test_a_full_disk_is_the_machines_trouble_not_the_items(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(100_000))
    code = (
        "import resource, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from voxmake.sources import Recording, fetch\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: fetch(Recording('a', '', '', '', 'x:1', Path(sys.argv[2])), Path(sys.argv[3]))\n"
        "except OSError as error: print(error.errno)\n"
    )
    command = [sys.executable, "-c", code, str(SCRIPTS), str(path), str(tmp_path / "target")]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == errno.EFBIG
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(("channels", "width"), [(1, 1), (1, 2), (2, 2), (1, 3), (2, 4)])
def test_a_segment_is_cut_sample_for_sample(channels, width, tmp_path):
    path = wav(tmp_path / "a.wav", 8000, channels, width)
    fetch(recording(path, start_s=0.125, end_s=0.250125), tmp_path / "target.wav")
    with wave.open(str(path)) as whole, wave.open(str(tmp_path / "target.wav")) as cut:
        assert cut.getnframes() == 1001
        assert cut.getparams()[:3] == whole.getparams()[:3]
        whole.setpos(1000)
        assert cut.readframes(2000) == whole.readframes(1001)
    content = (tmp_path / "target.wav").read_bytes()
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    assert len(content) % 2 == 0


def test_segments_at_the_edges(tmp_path):
    path, target = wav(tmp_path / "a.wav"), tmp_path / "t.wav"
    for end_s, frames in ((None, 4000), (1.0, 4000), (1.4, 4000)):
        fetch(recording(path, start_s=0.5, end_s=end_s), target)
        with wave.open(str(target)) as cut:
            assert cut.getnframes() == frames
    assert reason_of(recording(path, start_s=0.5, end_s=2.0), target) == "bad_times"
    assert reason_of(recording(path, start_s=1.0, end_s=1.2), target) == "bad_times"
    path.write_bytes(b"ID3" + bytes(1000))
    assert reason_of(recording(path, start_s=0.0, end_s=1.0), target) == "segment_not_wav"


def test_lengths_from_headers(tmp_path):
    path = wav(tmp_path / "a.wav", 4000)
    assert declared_duration_s(path) == 0.5
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"  # as a recorder leaves it that can't seek back
    path.write_bytes(content)
    assert declared_duration_s(path) == 0.5
    stream_info = (16000 << 44 | 15 << 36 | 24000).to_bytes(8)
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(14) + stream_info + bytes(16))
    assert declared_duration_s(tmp_path / "a.flac") == 1.5
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    assert declared_duration_s(tmp_path / "a.mp3") is None


def test_hostile_wav_headers_are_no_layout(tmp_path):
    path = tmp_path / "a.wav"
    good = wav(path).read_bytes()
    for hostile in (b"", good[:30], good[:22] + b"\0\0" + good[24:], b"RIFF" + bytes(8) + bytes(8) * 5000):
        path.write_bytes(hostile)
        with path.open("rb") as file:
            assert wav_layout(file, len(hostile)) is None
