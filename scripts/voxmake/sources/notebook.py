"""Notebooks of the Codex editor: which cell has which take of audio, and what its text is.

https://github.com/genesis-ai-dev/codex-editor, `types/index.d.ts`, `src/exportHandler/audioAttachmentUtils.ts`
and `src/utils/pathUtils.ts` (read in November 2026). A notebook is JSON: {"cells": [{"kind": 2, "value":
"<p>text</p>", "metadata": {"id": "GEN 1:1", "type": "text", "selectedAudioId": "audio-1",
"attachments": {"audio-1": {"type": "audio", "url": ".project/attachments/files/GEN/audio-1.webm",
"createdAt": 1, "updatedAt": 1, "isDeleted": false}}, "data": {"merged": false, "deleted": false}}}]}.

As in the editor's own export: paratext, milestone, merged and deleted cells are no recordings, `isMissing`
is a stale hint, and a chosen take that was deleted is never silently replaced by another. Notebooks from
before `selectedAudioId` name no choice: there the newest take counts, which is what the editor played.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from voxmake.errors import BadInput, Rejected

ATTACHMENTS = ".project/attachments"
TARGET_FOLDER = "files/target"
CELL_KINDS = (1, 2)  # markup, code: vscode.NotebookCellKind
SKIPPED_TYPES = ("paratext", "milestone")
SPOKEN_BREAKS = {"p", "br", "div", "li", "h1", "h2", "h3", "h4", "tr", "td"}
BLANKS = re.compile("[ \t\r\n\u00a0]+")


@dataclass(frozen=True)
class Cell:
    number: int  # from 1, for people
    id: str
    text: str
    files: tuple[str, ...]  # where the chosen take may lie, relative to the project, best first
    rejected: Rejected | None = None


@dataclass
class Notebook:
    cells: list[Cell] = field(default_factory=list)  # those with audio
    counts: dict[str, int] = field(default_factory=dict)  # the others, by why
    mentioned: set[str] = field(default_factory=set)  # every file that any take names, deleted ones too


def read_notebook(raw: bytes, name: str) -> Notebook:
    try:
        content = json.loads(raw.decode("utf-8-sig"))
        cells = content["cells"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BadInput(f"{name}: it is no Codex notebook (JSON with `cells`): look for merge conflicts in it") from None
    notebook = Notebook()
    for number, cell in enumerate(cells if isinstance(cells, list) else [], start=1):
        metadata = _dict(cell, "metadata")
        takes = _takes(metadata)
        notebook.mentioned.update(path for take in takes.values() for path in candidates(take["url"]))
        reason = _no_recording(cell, metadata, takes)
        if reason:
            notebook.counts[reason] = notebook.counts.get(reason, 0) + 1
            continue
        identifier = metadata.get("id")
        value = cell.get("value")
        shown = identifier if isinstance(identifier, str) else ""
        try:
            files = candidates(_chosen(metadata, takes)["url"])
            notebook.cells.append(Cell(number, shown, plain_text(value if isinstance(value, str) else ""), files))
        except Rejected as rejected:
            notebook.cells.append(Cell(number, shown, "", (), rejected))
    return notebook


def _dict(value: object, key: str) -> dict:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _takes(metadata: dict) -> dict[str, dict]:
    return {
        key: take
        for key, take in _dict(metadata, "attachments").items()
        if isinstance(take, dict) and take.get("type") == "audio" and isinstance(take.get("url"), str) and take["url"]
    }


def _no_recording(cell: object, metadata: dict, takes: dict[str, dict]) -> str:
    """Why this cell is no recording, "" when it is one."""
    data = _dict(metadata, "data")
    if not isinstance(cell, dict) or cell.get("kind") not in CELL_KINDS or metadata.get("type") in SKIPPED_TYPES:
        return "cells_not_spoken"
    if data.get("merged") or data.get("deleted"):
        return "cells_merged_or_deleted"
    if all(take.get("isDeleted") for take in takes.values()):
        return "cells_without_audio"
    return ""


def _chosen(metadata: dict, takes: dict[str, dict]) -> dict:
    usable = {key: take for key, take in takes.items() if not take.get("isDeleted")}
    selected = metadata.get("selectedAudioId")
    if isinstance(selected, str) and selected:
        if selected not in usable:
            raise Rejected("take_not_chosen", f"{selected} is gone, {len(usable)} other takes are there")
        return usable[selected]
    return usable[max(usable, key=lambda key: (_time(usable[key]), key))]


def _time(take: dict) -> float:
    times = (take.get("updatedAt"), take.get("createdAt"))
    return next((t for t in times if isinstance(t, int | float) and not isinstance(t, bool)), 0)


def candidates(url: str) -> tuple[str, ...]:
    """Where the file of a take may lie: files/ holds audio, pointers/ is what git has, neither is the old layout."""
    path = posixpath.normpath(url.replace("\\", "/"))
    _, found, rest = path.partition(f"{ATTACHMENTS}/")
    if not found:
        return (path,)
    rest = rest.removeprefix("files/").removeprefix("pointers/")
    return (f"{ATTACHMENTS}/files/{rest}", f"{ATTACHMENTS}/pointers/{rest}", f"{ATTACHMENTS}/{rest}")


def plain_text(value: str) -> str:
    """The words of a cell: tags and footnotes gone, entities decoded, blanks and line breaks made one space."""
    parser = _Words()
    parser.feed(value)
    parser.close()
    return BLANKS.sub(" ", "".join(parser.pieces)).strip()


class _Words(HTMLParser):
    """Collects text outside of style, script and footnote marks (<sup class="footnote-marker">1</sup>)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent: list[str] = []  # the tag whose text is not spoken, once per nesting

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        is_footnote = tag == "sup" and "footnote" in (dict(attrs).get("class") or "")
        if self._silent:
            if tag == self._silent[0]:
                self._silent.append(tag)
        elif is_footnote or tag in ("style", "script"):
            self._silent.append(tag)
        elif tag in SPOKEN_BREAKS:
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag == self._silent[0]:
                self._silent.pop()
        elif tag in SPOKEN_BREAKS:
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(data)
