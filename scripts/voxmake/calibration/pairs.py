"""Pairs of a paper and the episode that people made of it: <name>.pdf and <name>.mp3 in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import BadInput, ConfigError, Rejected
from voxmake.run.stage import PROJECT_ROOT
from voxmake.writing.material import slug

if TYPE_CHECKING:
    from voxmake.run.worker import Output


@dataclass(frozen=True)
class Found:
    """One name of the folder; a path is None where the partner is missing."""

    id: str
    pdf: Path | None
    mp3: Path | None

    @property
    def source(self) -> str:
        return (self.pdf or self.mp3).name


def find_pairs(folder: str | None) -> list[Found]:
    """Every name in the folder that has a PDF or an MP3, sorted by id.

    Raises:
        ConfigError: no folder is named, or it is not there.
        BadInput: it holds neither PDF nor MP3, or two names that are one id.
    """
    if folder is None:
        raise ConfigError("calibrate.pairs: names no folder of <id>.pdf and <id>.mp3; see docs/calibration.md")
    root = PROJECT_ROOT / folder
    if not root.is_dir():
        raise ConfigError(f"calibrate.pairs: {root} is no folder")
    there: dict[str, dict[str, Path]] = {}
    for path in sorted(root.iterdir()):
        if (kind := path.suffix.lower()) in (".pdf", ".mp3") and not path.name.startswith("."):
            if kind in there.setdefault(path.stem, {}):
                raise BadInput(f"{path}: {there[path.stem][kind].name} has the same name: rename one of them")
            there[path.stem][kind] = path
    if not there:
        raise BadInput(f"{root}: holds no .pdf and no .mp3; see docs/calibration.md")
    names: dict[str, str] = {}
    for stem in there:
        if (other := names.setdefault(slug(stem), stem)) != stem:
            raise BadInput(f"{root}: {other!r} and {stem!r} are one id: rename one of them")
    return sorted(
        (Found(slug(stem), kinds.get(".pdf"), kinds.get(".mp3")) for stem, kinds in there.items()),
        key=lambda found: found.id,
    )


@dataclass(frozen=True)
class Pair:
    """A pair that has been read, heard and analysed; `document` and `heard` as `document.py` and `listen.py` give them."""

    id: str
    document: dict[str, Any]
    heard: dict[str, Any]
    structure: dict[str, Any] | None  # None: the text engine could not classify it
    style: dict[str, Any]

    @property
    def duration_s(self) -> float:
        return self.heard["duration_s"]

    @cached_property
    def text(self) -> str:
        """What people said, an utterance a paragraph."""
        return "\n\n".join(one["text"] for one in self.heard["utterances"])

    @cached_property
    def stems(self) -> frozenset[str]:
        from voxmake.calibration.losses import document_stems

        return document_stems(self.document)


class Ingest:
    """Worker: one pair in, what the paper says and what was heard out; the recogniser is loaded when it is needed."""

    def __init__(self, recogniser: dict, reading: dict, language: str, batch_size: int):
        self.recogniser, self.reading, self.language, self.batch_size = recogniser, reading, language, batch_size
        self.engine = None

    def __call__(self, payload: dict, output: Output) -> dict:
        """payload: `pdf`, `mp3` (paths), `heard` if it is known. Row: document, heard."""
        from voxmake.calibration.document import read_document

        document = read_document(Path(payload["pdf"]), **self.reading)
        return {"document": document, "heard": payload["heard"] or self.hear(Path(payload["mp3"]))}

    def hear(self, path: Path) -> dict:
        from voxmake.asr import engines
        from voxmake.calibration.listen import hear

        if self.engine is None:
            self.engine = engines.load(**self.recogniser)
        return hear(path, self.engine, self.language, self.batch_size)


def lines(found: list[Found]) -> Iterator[str]:
    """What `list-pairs` prints."""
    for one in found:
        if one.pdf and one.mp3:
            yield f"{one.id}  {one.pdf.name} + {one.mp3.name}"
        else:
            missing = "mp3" if one.pdf else "pdf"
            yield f"{one.id}  {one.source}: its .{missing} is missing"


def check_partner(one: Found) -> None:
    """Raises: Rejected: no_partner."""
    if one.pdf is None or one.mp3 is None:
        raise Rejected("no_partner", f"no {Path(one.source).stem}.{'mp3' if one.pdf else 'pdf'} beside it")
