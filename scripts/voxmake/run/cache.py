"""Results that cost much, remembered by the content they were made from, across runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path


class Cache:
    """Bytes by key, for one maker. It can be deleted at any time: a cache costs or saves time, never correctness.

    Args:
        path: an sqlite file, made when it is first written to.
        identity: everything but the key that decides the value: engine, version, model, settings.
    """

    def __init__(self, path: Path, identity: str):
        self.path, self.identity = path, identity

    def known(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Values of the keys that are there."""
        wanted = set(keys)
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as table:
                rows = table.execute("SELECT key, value FROM remembered WHERE maker = ?", (self.identity,))
                return {key: value for key, value in rows if key in wanted}
        except sqlite3.OperationalError:  # none yet
            return {}
        except sqlite3.DatabaseError:  # damaged: begin a new one
            self.path.unlink(missing_ok=True)
            return {}

    def add(self, values: dict[str, bytes]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=5)) as table, table:
                # Not a word of it has to survive a power cut, and waiting for the disk would take longer than the work.
                table.execute("PRAGMA synchronous = OFF")
                table.execute(
                    "CREATE TABLE IF NOT EXISTS remembered (maker TEXT, key TEXT, value BLOB, PRIMARY KEY (maker, key))"
                )
                rows = ((self.identity, key, value) for key, value in values.items())
                table.executemany("INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)", rows)
        except (OSError, sqlite3.DatabaseError):
            return
