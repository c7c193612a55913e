"""What a source of recordings is, and what reading one gives.

Only pydantic and the standard library here: `collect.py --help` and the planner import this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voxmake.errors import ConfigError

Format = Literal[
    "auto", "audiofolder", "ljspeech", "piper", "coqui", "nemo", "kaldi", "folder", "codex", "gitlab"
]  # fmt: skip

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
SECRET_KEY = re.compile(r"token$|password|secret|private_key", re.IGNORECASE)  # `token_file` is not one


class Source(BaseModel):
    """One entry of the config key `collect.sources`."""

    # hide_input_in_errors: a token put here by mistake must not come back in the error message
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    path: str | None = Field(None, description="folder or metadata file, relative to the project root")
    format: Format = "auto"
    prefix: str = Field("", description="put before every id, so that several sources can be joined")
    speaker: str = Field("", description="the speaker of rows that name none")
    language: str = Field("", description="the language of rows that name none")
    text_column: str = Field(
        "", description="audiofolder, nemo: the column of the transcript, when it has another name"
    )
    audio_root: str | None = Field(
        None,
        description="folder, relative to the project root, that the metadata's audio paths start from and "
        "must stay in; default: the folder of the metadata",
    )
    # format: gitlab
    url: str = Field("https://gitlab.com", description="address of the GitLab server")
    project: str | None = Field(None, description="path (group/project) or numeric id")
    revision: str = Field("", description="branch, tag or commit; empty: the project's default branch")
    folder: str = Field("", description="folder of the repository that holds files/target and .project")
    token_file: str | None = Field(
        None,
        description="file with the access token, relative to the project root; default: environment variable "
        "GITLAB_TOKEN; none of both: anonymous access",
    )

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secret(cls, data: Any) -> Any:
        # ConfigError, not ValueError: pydantic would quote the whole entry, the secret included.
        if isinstance(data, dict):
            secrets = [key for key in data if isinstance(key, str) and SECRET_KEY.search(key)]
            if secrets:
                raise ConfigError(
                    f"sources: `{secrets[0]}` must not stand in a config: set GITLAB_TOKEN in the environment or "
                    f"name a file with `token_file:`"
                )
            if "@" in urlsplit(str(data.get("url", ""))).netloc:
                raise ConfigError("sources: `url` holds a user name or password: set GITLAB_TOKEN instead")
        return data

    @model_validator(mode="after")
    def _is_consistent(self) -> Source:
        if self.format == "gitlab":
            if not self.project or self.path is not None:
                raise ValueError("format gitlab needs `project:` (group/name or number) and no `path:`")
            address = urlsplit(self.url)
            if address.scheme != "https" and not (address.scheme == "http" and address.hostname in LOOPBACK_HOSTS):
                raise ValueError("`url` must start with https://, or the token would travel in clear text")
        elif self.project is not None:
            raise ValueError("`project:` belongs to `format: gitlab`")
        elif self.path is None:
            raise ValueError("`path:` is missing: the folder or metadata file, relative to the project root")
        return self


@dataclass(frozen=True)
class RemoteFile:
    """What a worker process needs to download one file: no token, it reads that itself."""

    url: str
    project: str
    commit: str
    path: str
    blob_id: str  # git's own hash of the file or of its LFS pointer: what the download is checked against
    token_file: Path | None


@dataclass(frozen=True)
class Recording:
    id: str
    transcription: str  # "" when the source has none
    speaker: str
    language: str
    where: str  # "metadata.csv:12", for people
    path: Path | None
    remote: RemoteFile | None = None
    size_bytes: int | None = None  # of the whole file; None: not known before the download
    start_s: float | None = None  # a segment of the file: `fetch` writes only that
    end_s: float | None = None  # None with a start: to the end of the file


@dataclass(frozen=True)
class RejectedRow:
    id: str
    source: str
    reason: str
    detail: str


@dataclass
class Listing:
    """Every row of the source is in exactly one of `recordings` and `rejected`, in the source's order."""

    recordings: list[Recording] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)  # audio files in the source that no row names
    counts: dict[str, int] = field(default_factory=dict)  # what is neither, e.g. cells_without_audio
