"""Make the demo corpus: four synthetic speakers, mixed formats, and one broken file of each kind.

    python data/demo/make_demo.py --output data/demo

Needs flite on the PATH (Debian: apt install flite). The same flite makes the same audio; the corpus
is committed, so nobody has to.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
import soxr

HERE = Path(__file__).parent
SPEAKERS = ("slt", "rms", "awb", "kal16")  # flite's voices at 16 kHz
FLITE_RATE_HZ = 16000
# What each speaker's clips are stored as, in turn; most of them small, so that the corpus stays below 8 MB.
FORMATS = ("flac", "mp3", "webm", "flac", "live.webm", "mp3", "webm", "live.webm", "mp3", "webm")


@dataclass(frozen=True)
class Clip:
    speaker: str
    number: int
    text: str
    samples: np.ndarray  # (n,), float32, 16 kHz


def speak(text: str, voice: str, folder: Path) -> np.ndarray:
    """One sentence by one flite voice, (n,), float32 at 16 kHz."""
    path = folder / "spoken.wav"
    subprocess.run([shutil.which("flite"), "-voice", voice, "-t", text, "-o", path], check=True)
    samples, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != FLITE_RATE_HZ:
        raise SystemExit(f"flite's voice {voice} speaks at {rate_hz} Hz, not {FLITE_RATE_HZ}")
    return samples


def with_level(samples: np.ndarray, rms_db: float) -> np.ndarray:
    return samples * (10 ** (rms_db / 20) / np.sqrt(np.mean(samples**2)))


def write_clip(samples: np.ndarray, stem: Path, kind: str) -> Path:
    """Store a clip as one of FORMATS; returns the file."""
    path = stem.with_suffix("." + kind.rpartition(".")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "wav":
        wide = soxr.resample(samples, FLITE_RATE_HZ, 48000)
        soundfile.write(path, np.stack([wide, wide], axis=1), 48000, subtype="PCM_16")
    elif kind == "flac":
        soundfile.write(path, samples, FLITE_RATE_HZ, subtype="PCM_16")
    elif kind == "mp3":
        by_ffmpeg(samples, path, "-ar", "22050", "-c:a", "libmp3lame", "-b:a", "48k")
    else:
        # A browser records into a stream: no size, no duration in the header, no seeking back to write them.
        live = kind == "live.webm"
        by_ffmpeg(samples, path, "-c:a", "libopus", "-b:a", "32k", "-f", "webm", *(["-live", "1"] if live else []))
    return path


def by_ffmpeg(samples: np.ndarray, path: Path, *options: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.wav"
        soundfile.write(source, samples, FLITE_RATE_HZ, subtype="PCM_16")
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-i", source]
        command += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", *options, path]
        subprocess.run(command, check=True)


def speak_clips(sentences: list[str], folder: Path) -> list[Clip]:
    clips = []
    for number, text in enumerate(sentences):
        voice = SPEAKERS[number % len(SPEAKERS)]
        clips.append(Clip(voice, number // len(SPEAKERS), text, speak(text, voice, folder)))
    return clips


def write_recordings(clips: list[Clip], root: Path) -> list[list[str]]:
    """Clips as people send them: other levels, other formats, silence around; returns the metadata rows."""
    chosen = random.Random(2026)
    rows = []
    for clip in clips:
        samples = with_level(clip.samples, chosen.uniform(-32, -20))
        if clip.number % 5 == 1:
            silence = np.zeros(round(chosen.uniform(0.3, 0.9) * FLITE_RATE_HZ), np.float32)
            samples = np.concatenate([silence, samples, silence])
        if (clip.speaker, clip.number) == ("rms", 3):
            samples = samples + 0.08  # a cheap sound card's DC offset
        if (clip.speaker, clip.number) == ("awb", 3):
            samples = np.clip(with_level(clip.samples, -6), -0.9999, 0.9999)
        # 48 kHz stereo WAV is what studios send, and big: one for each speaker
        kind = "wav" if clip.number == 9 else FORMATS[clip.number % len(FORMATS)]
        path = write_clip(np.clip(samples, -1, 1), root / clip.speaker / f"{clip.speaker}_{clip.number:03}", kind)
        rows.append([path.relative_to(root).as_posix(), clip.text, clip.speaker])
    return rows


def write_broken(clip: Clip, root: Path) -> list[list[str]]:
    """One file of each broken kind, so that a user sees what a rejection looks like."""
    folder = root / "broken"
    folder.mkdir(parents=True)
    short = clip.samples[: FLITE_RATE_HZ // 2]
    soundfile.write(folder / "whole.wav", short, FLITE_RATE_HZ, subtype="PCM_16")
    wav = (folder / "whole.wav").read_bytes()
    by_ffmpeg(clip.samples, folder / "whole.mp3", "-c:a", "libmp3lame", "-b:a", "48k")
    mp3 = (folder / "whole.mp3").read_bytes()
    # By hand: libsndfile writes the time of day into float files.
    nan = np.where(np.arange(4000) == 2000, np.nan, short[:4000]).astype("<f4").tobytes()
    fmt = struct.pack("<HHIIHH", 3, 1, FLITE_RATE_HZ, 4 * FLITE_RATE_HZ, 4, 32)
    nan_wav = b"RIFF" + struct.pack("<I", 36 + len(nan)) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    files = {
        "truncated.wav": wav[: len(wav) // 2],
        "header_only.wav": wav[:40] + struct.pack("<I", 0),
        "zero_bytes.wav": b"",
        "random_bytes.wav": b"\0" + random.Random(1).randbytes(2000),
        "playlist.wav": b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/other.wav\n",
        "not_a_number.wav": nan_wav + b"data" + struct.pack("<I", len(nan)) + nan,
        "cut_short.mp3": mp3[: len(mp3) // 2],
        "silence.wav": wav[:44] + bytes(len(wav) - 44),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name in ("whole.wav", "whole.mp3"):
        (folder / name).unlink()
    names = [*files, "missing.wav"]
    return [
        [f"broken/{name}", f"This recording is broken: {name.replace('_', ' ').replace('.', ' ')}.", ""]
        for name in sorted(names)
    ]


def write_long(clips: list[Clip], folder: Path) -> None:
    """Two speakers in one room: sentences with pauses of 0.3 to 2.5 s, and the truth about where they stand."""
    chosen, noise = random.Random(7), np.random.default_rng(7)
    folder.mkdir(parents=True)
    parts, rows, at = [np.zeros(FLITE_RATE_HZ, np.float32)], [], FLITE_RATE_HZ
    for clip in [clip for clip in clips if clip.speaker in ("slt", "rms")][:40]:
        # flite's own silence around a sentence is no part of it: the truth is where the voice is
        loud = np.flatnonzero(np.abs(clip.samples) > 0.01 * np.abs(clip.samples).max())
        samples = with_level(clip.samples[loud[0] : loud[-1] + 1], -23)
        rows.append(
            [f"{at / FLITE_RATE_HZ:.6f}", f"{(at + len(samples)) / FLITE_RATE_HZ:.6f}", clip.speaker, clip.text]
        )
        pause = np.zeros(round(chosen.uniform(0.3, 2.5) * FLITE_RATE_HZ), np.float32)
        parts += [samples, pause]
        at += len(samples) + len(pause)
    whole = np.concatenate(parts)
    room = noise.standard_normal(len(whole)).astype(np.float32) * 10 ** (-66 / 20)
    by_ffmpeg(np.clip(whole + room, -1, 1), folder / "long.mp3", "-c:a", "libmp3lame", "-b:a", "48k")
    with (folder / "long.reference.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["start_s", "end_s", "speaker", "text"], *rows])


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--output", type=Path, required=True, help="folder; its recordings/ and long/ are made anew")
    args = flags.parse_args(argv)
    if shutil.which("flite") is None:
        raise SystemExit("flite is not on the PATH: install it (Debian and Ubuntu: apt install flite)")
    sentences = (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()
    recordings = args.output / "recordings"
    for folder in (recordings, args.output / "long"):
        shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        clips = speak_clips(sentences, Path(scratch))
    rows = write_recordings(clips, recordings) + write_broken(clips[0], recordings)
    with (recordings / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["file_name", "transcription", "speaker_id"], *sorted(rows)])
    write_long(clips, args.output / "long")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
