"""Sources of recordings: reading them row by row, and fetching the bytes.

`Source` is the config; `read_sources` lists, `fetch` copies. Adding a format: one module with
`metadata_files(place)` and `read(place, out)`, its name in `model.Format` and in `reading.READERS`, and
how it is told from the others in `detect.py`.
"""

from voxmake.sources.fetching import fetch
from voxmake.sources.gitlab_project import commit_of
from voxmake.sources.model import Listing, Recording, RejectedRow, RemoteFile, Source
from voxmake.sources.reading import files_of, read_source, read_sources

__all__ = [
    "Listing",
    "Recording",
    "RejectedRow",
    "RemoteFile",
    "Source",
    "commit_of",
    "fetch",
    "files_of",
    "read_source",
    "read_sources",
]
