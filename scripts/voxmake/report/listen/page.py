"""Write the listening room: one page, and the clips it plays beside it.

    listen/index.html    script, style and data inside; no server, no network, nothing from elsewhere
    listen/audio/*.wav   copies of the clips, so that the folder can be moved or zipped

Transcripts are data from outside. In the page they stand as JSON in which no `<` is left, its script
puts them into the document as text only, and a Content-Security-Policy lets nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.report.listen.room import Clip, Room, columns

if TYPE_CHECKING:
    import numpy as np

BINS = 200  # of a waveform; about one for two pixels of the player
MARK = "<!-- voxmake listening room -->"  # the first line after the doctype; a folder with it may be replaced
HERE = Path(__file__).parent
# One script in this order: what is decided and its file, the list, the chosen row, playing, keys and start.
SCRIPTS = ("decisions.js", "list.js", "detail.js", "player.js", "room.js")


def write_room(folder: Path, room: Room, facts: dict[str, Any]) -> None:
    """Write index.html and audio/ into an empty folder.

    Args:
        facts: what the page says of itself: project, key, runs, missing, corrections, corrections_path.
    """
    (folder / "audio").mkdir()
    names = _file_names(room.clips)
    shown = columns(room.clips)
    clips = []
    for clip in room.clips:
        target = folder / "audio" / names[clip.id]
        # Copied, not linked: an editor that saves into this folder must not reach into a published run.
        shutil.copyfile(clip.path, target)
        clips.append(_clip(clip, f"audio/{target.name}"))
    data = facts | {
        "bins": BINS,
        "columns": [{"name": name, "numeric": numeric} for name, numeric in shown],
        "clips": clips,
        "speakers": [vars(speaker) for speaker in room.speakers],
    }
    (folder / "index.html").write_text(page(data), encoding="utf-8")


def page(data: dict[str, Any]) -> str:
    """index.html around its data."""
    style = (HERE / "room.css").read_text(encoding="utf-8")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    text = (HERE / "page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "media-src 'self' file:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "MARK": MARK,
        "POLICY": policy,
        "PROJECT": html.escape(data["project"]),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json_for_html(data),
    }
    # One pass: what is put in is not looked at again, whatever it holds.
    return re.sub(r"@@([A-Z]+)@@", lambda found: parts[found[1]], text)


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def json_for_html(value: Any) -> str:
    """JSON that can stand in a <script> element: no end tag, no comment, no line separator of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _clip(clip: Clip, file: str) -> dict[str, Any]:
    import soundfile

    samples, rate_hz = soundfile.read(clip.path, dtype="float32", always_2d=True)
    return {
        "id": clip.id,
        "file": file,
        "text": clip.text,
        "normalised": clip.normalised,
        "speaker": clip.speaker,
        "split": clip.split,
        "reasons": clip.reasons,
        "lists": clip.lists,
        "rank": clip.rank,
        "values": clip.values,
        "heard": clip.heard,
        "diff": clip.diff,
        "seconds": round(len(samples) / rate_hz, 3),
        "wave": base64.b64encode(waveform(samples.mean(axis=1))).decode(),
    }


def waveform(samples: np.ndarray) -> bytes:
    """What the page draws of a clip.

    Args:
        samples: shape (n,), full scale is 1.

    Returns:
        3 * BINS bytes: of each bin the minimum, the maximum (both signed) and the RMS level, in
        127ths of full scale. Fewer samples than bins give bins that repeat.
    """
    import numpy as np

    if not len(samples):
        return bytes(3 * BINS)
    starts = np.arange(BINS) * len(samples) // BINS
    sizes = np.maximum(np.diff(np.append(starts, len(samples))), 1)
    power = np.add.reduceat(samples.astype(np.float64) ** 2, starts) / sizes
    bins = np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts), np.sqrt(power)])
    return np.clip(np.rint(bins * 127), -127, 127).astype(np.int8).tobytes()


def _file_names(clips: list[Clip]) -> dict[str, str]:
    """Clip id -> a name that every file system and URL takes as it is; unique without regard to case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for clip in clips:
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", clip.path.stem)[:96]
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[clip.id] = f"{name}{clip.path.suffix.lower()}"
    return names
