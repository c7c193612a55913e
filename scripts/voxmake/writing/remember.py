"""What a model answered once is not asked again: texts and verdicts by all that decides them, across runs.

So a changed song, persona, prompt, model or seed costs exactly the items that it concerns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from voxmake.run.cache import Cache
from voxmake.run.stage import data_root
from voxmake.run.work import Item


def through(
    kind: str, run: Any, todo: list[Item], keys: dict[str, str], make: Callable[..., dict[str, dict]], again: bool
) -> dict[str, dict]:
    """Rows of all items by id, sorted: those that are known, and what `make(items, each=…)` makes of the others.

    Args:
        kind: names the file below .cache.
        keys: of each item what decides its row.
        again: as for Run.map: the items have been counted before.
    """
    todo = sorted(todo, key=lambda item: item.id)[: run.limit]
    cache = Cache(data_root() / ".cache" / f"{kind}.sqlite", "1")
    known = {key: json.loads(value) for key, value in cache.known(keys.values()).items()}
    rows = {item.id: known[keys[item.id]] for item in todo if keys[item.id] in known}
    if rows:
        run.log.info("%d of %d %s are known from earlier runs", len(rows), len(todo), kind)
    if not again:
        run.take_in(len(rows))
    fresh = [item for item in todo if item.id not in rows]
    if fresh:
        rows |= make(fresh, each=lambda item, row: cache.add({keys[item]: json.dumps(row).encode()}))
    return dict(sorted(rows.items()))
