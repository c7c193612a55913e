"""A Codex editor project on a GitLab server, read at one commit without cloning it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from voxmake.errors import BadInput, Rejected
from voxmake.sources.checks import printable
from voxmake.sources.model import RemoteFile, Source
from voxmake.sources.notebook import ATTACHMENTS, TARGET_FOLDER, Cell, read_notebook
from voxmake.sources.rows import Collector
from voxmake.sources.tree import is_audio

if TYPE_CHECKING:
    from voxmake.sources.gitlab_client import Blob, Project

FULL_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def commit_of(source: Source, root: Path) -> str:
    """The commit that `revision` means now; a full commit id needs no network."""
    if FULL_COMMIT.fullmatch(source.revision):
        return source.revision
    return _project(source, root).commit(source.revision)


def read(source: Source, root: Path, out: Collector) -> None:
    commit = commit_of(source, root)
    project = _project(source, root)
    below = source.folder.strip("/")
    notebooks = project.tree(posixpath.join(below, TARGET_FOLDER), commit)
    blobs = project.tree(posixpath.join(below, ATTACHMENTS), commit)
    names = sorted(name for name in notebooks if name.endswith(".codex"))
    if not names:
        raise BadInput(
            f"{source.url}/{source.project}: no *.codex under {posixpath.join(below, TARGET_FOLDER)} at "
            f"{commit[:12]}: check `revision:` and `folder:`"
        )
    mentioned: set[str] = set()
    for name in names:
        notebook = read_notebook(project.read(name, commit, notebooks[name].id), name)
        mentioned |= {posixpath.join(below, path) for path in notebook.mentioned}
        for reason, count in notebook.counts.items():
            out.count(reason, count)
        for cell in notebook.cells:
            where = f"{printable(name)}:{cell.number}"
            with out.row(where, cell.id):
                path = _locate(cell, below, blobs)
                token_file = root / source.token_file if source.token_file else None
                remote = RemoteFile(source.url, str(source.project), commit, path, blobs[path].id, token_file)
                out.keep(where, cell.id, remote, cell.text)
    out.listing.unlisted = [printable(name) for name in sorted(blobs) if is_audio(name) and name not in mentioned]


def _project(source: Source, root: Path) -> Project:
    from voxmake.sources.gitlab_client import Project  # python-gitlab is slow to import

    return Project(source.url, str(source.project), root / source.token_file if source.token_file else None)


def _locate(cell: Cell, below: str, blobs: dict[str, Blob]) -> str:
    if cell.rejected:
        raise cell.rejected
    if cell.files[0].startswith(("/", "../")) or "/../" in cell.files[0]:
        raise Rejected("path_outside_root", f"{cell.files[0]} leaves the project")
    for name in cell.files:
        path = posixpath.join(below, name)
        if path in blobs:
            if not blobs[path].is_regular:
                raise Rejected("not_regular_file", f"{name} is a link")
            return path
    raise Rejected("missing_file", cell.files[0])
