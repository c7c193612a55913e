"""A git clone of a Codex editor project: notebooks under files/target, audio under .project/attachments."""

from __future__ import annotations

from pathlib import Path

from voxmake.errors import Rejected
from voxmake.sources.checks import printable
from voxmake.sources.notebook import ATTACHMENTS, TARGET_FOLDER, Cell, read_notebook
from voxmake.sources.rows import Collector, Place, read_bytes
from voxmake.sources.tree import AudioTree, walk


def metadata_files(place: Place) -> list[Path]:
    if place.metadata:
        return [place.metadata]
    target = place.folder / TARGET_FOLDER
    return [target / name for name in walk(target) if name.endswith(".codex")] if target.is_dir() else []


def read(place: Place, out: Collector) -> None:
    mentioned: set[str] = set()
    for file in metadata_files(place):
        notebook = read_notebook(read_bytes(file), place.shown(file))
        mentioned |= notebook.mentioned
        for reason, count in notebook.counts.items():
            out.count(reason, count)
        for cell in notebook.cells:
            where = place.where(file, cell.number)
            with out.row(where, cell.id):
                if cell.rejected:
                    raise cell.rejected
                out.keep(where, cell.id, _locate(place.audio, cell), cell.text)
    # old takes are named, so only files that no take of any cell knows are reported
    audio = [name for name in place.audio.names if name.startswith(f"{ATTACHMENTS}/")]
    out.listing.unlisted = [printable(name) for name in audio if name not in mentioned]


def _locate(audio: AudioTree, cell: Cell) -> Path:
    """The first place that holds audio; a Git LFS pointer is only worth telling when there is none."""
    pointer = None
    for name in cell.files:
        try:
            return audio.locate(name)
        except Rejected as rejected:
            if rejected.reason == "lfs_pointer":
                pointer = rejected
            elif rejected.reason != "missing_file":
                raise
    raise pointer or Rejected("missing_file", cell.files[0])
