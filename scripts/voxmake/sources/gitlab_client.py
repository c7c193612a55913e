"""The few GitLab API calls a source needs: commit, tree, file. Bounded in time, silent about the token.

https://docs.gitlab.com/api/repositories/ and https://docs.gitlab.com/api/repository_files/.
Error texts are ours throughout: a server's answer is not repeated, it could quote the request.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import gitlab
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from voxmake.errors import BadInput, ConfigError, Rejected
from voxmake.sources.model import RemoteFile
from voxmake.sources.tree import LFS_POINTER_MAX_BYTES, LFS_POINTER_START

TOKEN_VARIABLE = "GITLAB_TOKEN"  # noqa: S105 - a name, not a token
TIMEOUT_S = 60  # without a byte
TRIES = 4
BACKOFF_S = 0.5  # doubled after every try
LONGEST_WAIT_S = 60  # whatever Retry-After says
BUSY_STATUS = (429, 500, 502, 503, 504)
PAGE_SIZE = 100
CHUNK_BYTES = 1 << 20
# one try per call: retries are the adapter's, which python-gitlab would repeat without a bound
NO_RETRIES = {"obey_rate_limit": False, "retry_transient_errors": False}


@dataclass(frozen=True)
class Blob:
    id: str
    is_regular: bool


def read_token(token_file: Path | None) -> str:
    if token_file:
        try:
            token = token_file.read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise ConfigError(f"token_file {token_file.name} can't be read: {error.strerror}") from None
    else:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token and not re.fullmatch("[!-~]+", token):  # requests would quote a bad header in its error
        raise ConfigError(f"the token in {token_file.name if token_file else TOKEN_VARIABLE} holds odd characters")
    return token


@lru_cache(maxsize=8)
def connect(url: str, token_file: Path | None) -> gitlab.Gitlab:
    """One connection pool per process."""
    retry = Retry(
        total=TRIES - 1,
        backoff_factor=BACKOFF_S,
        status_forcelist=BUSY_STATUS,
        allowed_methods=("GET",),
        retry_after_max=LONGEST_WAIT_S,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return gitlab.Gitlab(
        url,
        # as a bearer token: requests drops that header when LFS redirects to an object store, PRIVATE-TOKEN it keeps
        oauth_token=read_token(token_file) or None,
        timeout=TIMEOUT_S,
        session=session,
        keep_base_url=True,  # pages are asked from the configured server, whatever its Link header says
    )


class Project:
    def __init__(self, url: str, project: str, token_file: Path | None):
        self._name = f"{url.rstrip('/')}/{project}"
        self._server = connect(url, token_file)
        self._project = self._server.projects.get(project, lazy=True)

    def commit(self, revision: str) -> str:
        with self._explained(f"revision {revision or 'of the default branch'}"):
            if not revision:
                revision = self._server.projects.get(self._project.encoded_id, **NO_RETRIES).default_branch
            return self._project.commits.get(revision, **NO_RETRIES).id

    def tree(self, folder: str, commit: str) -> dict[str, Blob]:
        """Every file below `folder`, by path; empty when there is no such folder."""
        with self._explained(f"the list of files in {folder}"):
            try:
                entries = list(
                    self._project.repository_tree(
                        folder,
                        commit,
                        recursive=True,
                        iterator=True,
                        per_page=PAGE_SIZE,
                        pagination="keyset",
                        **NO_RETRIES,
                    )
                )
            except gitlab.GitlabError as error:
                if error.response_code == 404:
                    return {}
                raise
        return {e["path"]: Blob(e["id"], e["mode"].startswith("100")) for e in entries if e["type"] == "blob"}

    def read(self, path: str, commit: str, blob_id: str) -> bytes:
        with self._explained(path):
            content = self._project.files.raw(path, commit, **NO_RETRIES)
        if _blob_id(len(blob_id), len(content), [content]) != blob_id:
            raise BadInput(f"{self._name}: {path} came broken: run again")
        return content

    def download(self, remote: RemoteFile, file: BinaryIO) -> tuple[str, int]:
        """Writes the file, LFS resolved, and returns its sha256 and size; git's own hash proves the bytes."""
        trouble = ""
        for tried in range(TRIES):
            if tried:
                time.sleep(BACKOFF_S * 2 ** (tried - 1))
            chunks = self._open(remote)
            try:
                sha256, size_bytes = _write(chunks, file)
            except requests.RequestException as error:
                trouble = f"{type(error).__name__} on the way"
                continue
            if self._is_the_blob(remote, file, sha256, size_bytes):
                return sha256, size_bytes
            trouble = "the bytes are not those of the commit"
        raise Rejected("download_failed", f"{remote.path}: {trouble}, {TRIES} times")

    def _open(self, remote: RemoteFile) -> Iterator[bytes]:
        """The file's bytes to come. No connection or a busy server has been tried again by the adapter."""
        try:
            return self._project.files.raw(
                remote.path, remote.commit, lfs=True, streamed=True, iterator=True, chunk_size=CHUNK_BYTES, **NO_RETRIES
            )
        except requests.RequestException as error:
            raise Rejected("download_failed", f"{remote.path}: {type(error).__name__}") from None
        except gitlab.GitlabError as error:
            if error.response_code in (401, 403):
                raise self._refused(error) from None  # every other file would fail alike: the run stops
            if error.response_code == 404:
                raise Rejected("missing_file", f"{remote.path}: the server has it no more") from None
            raise Rejected("download_failed", f"{remote.path}: the server answers {error.response_code}") from None

    def _is_the_blob(self, remote: RemoteFile, file: BinaryIO, sha256: str, size_bytes: int) -> bool:
        """Whether the commit holds these bytes, or a Git LFS pointer to them."""
        file.seek(0)
        if _blob_id(len(remote.blob_id), size_bytes, iter(lambda: file.read(CHUNK_BYTES), b"")) == remote.blob_id:
            file.seek(0)
            if size_bytes <= LFS_POINTER_MAX_BYTES and file.read(len(LFS_POINTER_START)) == LFS_POINTER_START:
                raise Rejected("lfs_pointer", f"{remote.path}: the server has no audio for it")
            return True
        pointer = f"{LFS_POINTER_START.decode()}v1\noid sha256:{sha256}\nsize {size_bytes}".encode()
        # git-lfs ends the pointer with a line feed, the Codex editor's own writer does not
        return any(_blob_id(len(remote.blob_id), len(p), [p]) == remote.blob_id for p in (pointer + b"\n", pointer))

    def _refused(self, error: gitlab.GitlabError) -> ConfigError:
        return ConfigError(
            f"{self._name}: the server refuses access ({error.response_code}): put a token with read_api and "
            f"read_repository into {TOKEN_VARIABLE} or `token_file:`"
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except gitlab.GitlabError as error:
            if error.response_code in (401, 403):
                raise self._refused(error) from None
            if error.response_code == 404:
                raise ConfigError(
                    f"{self._name}: no such project or {what}, or the token may not see it: check `project:`, "
                    f"`revision:` and the token's scopes"
                ) from None
            raise BadInput(f"{self._name}: {what}: the server answers {error.response_code}: run again later") from None
        except requests.RequestException as error:
            raise BadInput(f"{self._name}: {what}: {type(error).__name__}: check `url:` and the network") from None


def _write(chunks: Iterator[bytes], file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    file.truncate()
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        file.write(chunk)
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _blob_id(id_length: int, size_bytes: int, chunks: Iterable[bytes]) -> str:
    """Git's hash of a file: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects; 64 digits in SHA-256 repositories."""
    header = b"blob %d\0" % size_bytes
    digest = hashlib.sha256(header) if id_length == 64 else hashlib.sha1(header, usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
