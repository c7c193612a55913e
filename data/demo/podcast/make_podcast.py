"""Make the podcast pairs: four articles as PDF, and two flite voices that talk about each as MP3.

    python data/demo/podcast/make_podcast.py --output data/demo/podcast

Needs flite on the PATH (Debian: apt install flite). The same versions of flite, fpdf2 and ffmpeg make the same
bytes; the pairs are committed, so nobody has to.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
import yaml
from fpdf import FPDF

HERE = Path(__file__).parent
RATE_HZ = 16000  # of flite's voices slt and rms
BIT_RATE = "24k"
PAUSE_S, TURN_S = 0.35, 0.55  # between two sentences of a host, and when the other one takes over
DATE = datetime(2026, 11, 21, tzinfo=UTC)  # in the PDFs' metadata; any fixed day gives fixed bytes


def write_pdf(episode: dict, path: Path) -> None:
    pdf = FPDF(format=(148, 210))  # A5, in mm
    pdf.set_creation_date(DATE)
    pdf.set_title(episode["title"])
    pdf.set_margin(18)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 16)
    pdf.multi_cell(0, 8, episode["title"], new_x="LMARGIN", new_y="NEXT")
    number = 0
    for section in episode["sections"]:
        pdf.ln(3)
        pdf.set_font("Helvetica", "B", 12)
        pdf.cell(0, 7, section["heading"], new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=10)
        pdf.multi_cell(0, 5, " ".join(section["text"].split()), new_x="LMARGIN", new_y="NEXT")
        if "figure" in section:
            number += 1
            draw_figure(pdf, number, section["figure"])
    pdf.output(str(path))


def draw_figure(pdf: FPDF, number: int, figure: dict) -> None:
    """Two lines in a frame, and a caption below."""
    left, top, width, height = pdf.l_margin, pdf.get_y() + 3, pdf.epw, 28.0
    if top + height + 12 > pdf.h - pdf.b_margin:
        pdf.add_page()
        top = pdf.get_y()
    pdf.rect(left, top, width, height)
    highest = max(figure["low"] + figure["high"]) * 1.1
    for name, grey in (("low", 0), ("high", 140)):
        pdf.set_draw_color(grey)
        points = [
            (left + width * at / (len(figure[name]) - 1), top + height * (1 - value / highest))
            for at, value in enumerate(figure[name])
        ]
        pdf.polyline(points)
    pdf.set_draw_color(0)
    pdf.set_y(top + height + 2)
    pdf.set_font("Helvetica", "I", 9)
    pdf.multi_cell(0, 5, f"Figure {number}: {figure['caption']}", new_x="LMARGIN", new_y="NEXT")


def speak(sentence: str, voice: str, folder: Path) -> np.ndarray:
    """One sentence by one flite voice, (n,), float32."""
    path = folder / "spoken.wav"
    subprocess.run([shutil.which("flite"), "-voice", voice, "-t", sentence, "-o", path], check=True)
    samples, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != RATE_HZ:
        raise SystemExit(f"flite's voice {voice} speaks at {rate_hz} Hz, not {RATE_HZ}")
    return samples


def write_mp3(episode: dict, hosts: dict, path: Path) -> None:
    def silence(seconds: float) -> np.ndarray:
        return np.zeros(round(seconds * RATE_HZ), np.float32)

    pieces = [silence(PAUSE_S)]
    with tempfile.TemporaryDirectory() as folder:
        for line in episode["script"].strip().splitlines():
            host, _, words = line.partition(": ")
            sentences = words.replace("? ", "?|").replace(". ", ".|").split("|")
            for sentence in sentences:
                pieces += [speak(sentence, hosts[host], Path(folder)), silence(PAUSE_S)]
            pieces.append(silence(TURN_S - PAUSE_S))
        wav = Path(folder) / "all.wav"
        soundfile.write(wav, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-i", wav, "-ac", "1", "-b:a", BIT_RATE, "-reservoir", "0",
            "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", path,
        ]  # fmt: skip
        subprocess.run(command, check=True)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--output", type=Path, required=True, help="folder for <id>.pdf and <id>.mp3")
    output = flags.parse_args().output
    if shutil.which("flite") is None:
        raise SystemExit("flite is not on the PATH: apt install flite")
    told = yaml.safe_load((HERE / "episodes.yaml").read_text(encoding="utf-8"))
    output.mkdir(parents=True, exist_ok=True)
    for episode in told["episodes"]:
        write_pdf(episode, output / f"{episode['id']}.pdf")
        write_mp3(episode, told["hosts"], output / f"{episode['id']}.mp3")


if __name__ == "__main__":
    main()
