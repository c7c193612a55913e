"""What differs between two trees of plain values: configs, stats, identities of runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """A value that differs; None where one side has it not. As text: `keys.audio.target_db: -20.0 -> -23.0`."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return (
            f"{self.key}: {json.dumps(self.before, ensure_ascii=False)} -> {json.dumps(self.now, ensure_ascii=False)}"
        )


def compare(before: Any, now: Any, key: str = "") -> Iterator[Leaf]:
    """Every leaf that differs, by its dotted key."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            yield from compare(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield Leaf(key, before, now)
