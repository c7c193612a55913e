"""From the config's sources to one list of recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxmake.errors import BadInput, ConfigError
from voxmake.sources import audiofolder, codex, folder, gitlab_project, kaldi, nemo, pipes
from voxmake.sources.checks import id_key, printable
from voxmake.sources.detect import detect_format
from voxmake.sources.model import Listing, RejectedRow, Source
from voxmake.sources.notebook import ATTACHMENTS, TARGET_FOLDER
from voxmake.sources.rows import Collector, Place
from voxmake.sources.tree import AudioTree


@dataclass(frozen=True)
class Reader:
    read: Callable[[Place, Collector], None]
    metadata_files: Callable[[Place], list[Path]]


READERS = {
    "audiofolder": Reader(audiofolder.read, audiofolder.metadata_files),
    "ljspeech": Reader(pipes.read_ljspeech, pipes.metadata_files),
    "piper": Reader(pipes.read_piper, pipes.metadata_files),
    "coqui": Reader(pipes.read_coqui, pipes.metadata_files),
    "nemo": Reader(nemo.read, nemo.metadata_files),
    "kaldi": Reader(kaldi.read, kaldi.metadata_files),
    "folder": Reader(folder.read, folder.metadata_files),
    "codex": Reader(codex.read, codex.metadata_files),
}
NEEDED_METADATA = {
    "audiofolder": "metadata.csv, metadata.jsonl or metadata.parquet",
    "ljspeech": "metadata.csv",
    "piper": "metadata.csv",
    "coqui": "metadata.csv",
    "nemo": "*.json or *.jsonl with audio_filepath",
    "kaldi": "wav.scp",
    "codex": f"{TARGET_FOLDER}/*.codex",
}


def read_source(source: Source, root: Path) -> Listing:
    """Every row of one source, kept or rejected. Of rows with one id, the first usable one is kept.

    Args:
        root: the project's folder, at which `source.path` starts.
    """
    out = Collector(source)
    if source.format == "gitlab":
        gitlab_project.read(source, root, out)
    else:
        name, place = _place(source, root)
        READERS[name].read(place, out)
        if name != "codex":  # knows its own
            out.listing.unlisted = [printable(audio) for audio in place.audio.unasked()]
    if not out.listing.recordings and not out.listing.rejected:
        raise BadInput(
            f"{source.path or source.project}: no recordings there: check the source's `path:` and `format:`"
        )
    return out.listing


def read_sources(sources: Sequence[Source], root: Path) -> Listing:
    """All sources as one, in the config's order.

    An id of an earlier source makes a later one duplicate_id, after NFC and case folding: the result
    depends on the order in the config and in the metadata, never on that of a folder's listing.
    """
    if not sources:
        raise ConfigError("sources: the list is empty: name at least one source")
    joined, taken = Listing(), {}
    for source in sources:
        listing = read_source(source, root)
        label = Path(source.path).name + "/" if source.path else ""
        label = label if len(sources) > 1 else ""
        for recording in listing.recordings:
            where, key = label + recording.where, id_key(recording.id)
            if key in taken:
                detail = f"the same id as {taken[key]}: give one of the sources a `prefix:`"
                joined.rejected.append(RejectedRow(recording.id, where, "duplicate_id", detail))
            else:
                taken[key] = where
                joined.recordings.append(replace(recording, where=where))
        joined.rejected += [replace(row, source=label + row.source) for row in listing.rejected]
        joined.unlisted += [label + name for name in listing.unlisted]
        for name, number in listing.counts.items():
            joined.counts[name] = joined.counts.get(name, 0) + number
    return joined


def files_of(source: Source, root: Path) -> list[Path]:
    """The local files whose content decides what the source gives, sorted; none for gitlab (see `commit_of`)."""
    if source.format == "gitlab":
        return []
    name, place = _place(source, root)
    files = {place.audio.root / audio for audio in place.audio.names} | set(READERS[name].metadata_files(place))
    # metadata may also name files without an audio suffix
    files |= {recording.path for recording in read_source(source, root).recordings}
    return sorted(file for file in files if file.is_file())


def _place(source: Source, root: Path) -> tuple[str, Place]:
    path = (root / source.path).resolve()
    if not path.exists():
        raise BadInput(f"{source.path}: no such folder or file: check the source's `path:`")
    name = detect_format(path) if source.format == "auto" else source.format
    home, metadata = (path, None) if path.is_dir() else (path.parent, path)
    if name == "codex" and metadata:
        if not path.parent.as_posix().endswith(f"/{TARGET_FOLDER}"):
            raise BadInput(f"{source.path}: a notebook must lie in {TARGET_FOLDER} of its project")
        home = path.parents[2]
    if name == "folder" and metadata:
        raise BadInput(f"{source.path}: `format: folder` needs a folder, this is a file")
    audio_root = (root / source.audio_root).resolve() if source.audio_root and name != "folder" else home
    if not audio_root.is_dir():
        raise BadInput(f"{source.audio_root}: no such folder: check the source's `audio_root:`")
    place = Place(source, home, metadata, AudioTree(audio_root, [ATTACHMENTS] if name == "codex" else []))
    files = READERS[name].metadata_files(place)
    if name in NEEDED_METADATA and not (files and files[0].is_file()):
        raise BadInput(
            f"{source.path}: no {NEEDED_METADATA[name]} there, which `format: {name}` needs: name another `format:`"
        )
    return name, place
