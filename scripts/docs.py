"""Write what is generated from the code: base.yaml, the schema for editors, the reference pages.

    python scripts/docs.py            # write
    python scripts/docs.py --check    # exit 1 if a file is out of date (make lint, CI)

The pydantic models are the one place where a key, its default, its unit and its meaning stand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from voxmake.errors import PASSING, REASONS
from voxmake.run.config import config_model, section_model
from voxmake.run.stage import PROJECT_ROOT, STAGES, all_sections, load_stage

_COMMENT_COLUMN = 44


def base_yaml() -> str:
    """configs/base.yaml: every key with its default and an aligned comment."""
    lines = [
        "# yaml-language-server: $schema=schema.json",
        "# Every key there is, with its default. A project's file says `extends: base.yaml` and gives only",
        "# what differs. Written by `make docs` from the models in scripts/: change it there.",
        "",
    ]
    model = config_model(all_sections())
    for name, field in model.model_fields.items():
        inner = section_model(field.annotation)
        if inner is None or name not in (*all_sections(), "execution"):
            lines.append(_key_line(name, field, 0))
            continue
        lines += ["", *(f"# {line}".rstrip() for line in _doc(inner)), f"{name}:"]
        lines += [_key_line(key, entry, 1) for key, entry in inner.model_fields.items()]
    return "\n".join(lines) + "\n"


def _doc(model: type[BaseModel]) -> list[str]:
    return [line.strip() for line in (model.__doc__ or "").strip().split("\n")]


def _default(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _key_line(name: str, field: Any, depth: int) -> str:
    value = _default(field)
    dumped = value if not isinstance(value, BaseModel) else value.model_dump(mode="json")
    left = f"{'  ' * depth}{name}: {json.dumps(dumped, ensure_ascii=False)}"
    comment = field.description or ""
    choices = _choices(field.annotation)
    if choices:
        comment += f" [{', '.join(choices)}]"
    return f"{left:<{_COMMENT_COLUMN}} # {comment}"


def _choices(annotation: Any) -> list[str]:
    values = [value for value in get_args(annotation) if isinstance(value, str | int) and not isinstance(value, type)]
    return [json.dumps(value).strip('"') for value in values] if len(values) > 1 else []


def schema_json() -> str:
    """configs/schema.json: JSON Schema of a config file, for completion and checks in an editor."""
    schema = config_model(all_sections()).model_json_schema()
    schema["title"] = "voxmake config"
    schema["properties"]["extends"] = {"type": "string", "description": "another config file, relative to this one"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def config_page() -> str:
    """docs/config.md: the config reference."""
    lines = [
        "# Config reference",
        "",
        "Written by `make docs` from the models in `scripts/`. Units stand in the names: `_s` seconds, `_hz` hertz,",
        "`_db` decibels, `_mb` mebibytes. Paths are relative to the project's folder. `--set section.key=value`",
        "(`SET=` with make) overrides any key. Keys of `execution` change no byte of a result and rerun nothing;",
        "every other key belongs to the stages named with its section and reruns these and what depends on them.",
        "",
    ]
    sections = all_sections()
    model = config_model(sections)
    top = {n: f for n, f in model.model_fields.items() if n not in (*sections, "execution")}
    lines += ["## Top level", "", *_table(top), ""]
    for name in ("execution", *sections):
        inner = section_model(model.model_fields[name].annotation)
        users = [stage for stage in STAGES if name in load_stage(stage).sections]
        lines += [f"## {name}", "", " ".join(_doc(inner)), ""]
        lines += [
            f"Read by: {', '.join(users)}." if users else "Read by every stage.",
            "",
            *_table(inner.model_fields),
            "",
        ]
        for key, field in inner.model_fields.items():
            if (entry := section_model(field.annotation)) is not None:
                lines += [
                    f"### One entry of {name}.{key}",
                    "",
                    " ".join(_doc(entry)),
                    "",
                    *_table(entry.model_fields),
                    "",
                ]
    return "\n".join(lines).rstrip() + "\n"


def _table(fields: dict[str, Any]) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        value = _default(field)
        choices = _choices(field.annotation)
        meaning = (field.description or "") + (f" One of: {', '.join(choices)}." if choices else "")
        default = "required" if field.is_required() else f"`{json.dumps(value, ensure_ascii=False)}`"
        yield f"| `{name}` | {default} | {meaning} |".replace("\n", " ")


def reasons_page() -> str:
    """docs/reasons.md: every reason code of rejected.csv."""
    lines = [
        "# Reason codes",
        "",
        "Written by `make docs`. Each row of a run's `rejected.csv` has `id`, `source` (file and row), one of these codes,",
        "and a detail. Codes marked * are tried again when an interrupted run is resumed; the others are final.",
        "",
        "| code | how to mend it |",
        "|---|---|",
        *(f"| `{code}`{' *' if code in PASSING else ''} | {remedy} |" for code, remedy in REASONS.items()),
    ]
    return "\n".join(lines) + "\n"


GENERATED = {
    "configs/base.yaml": base_yaml,
    "configs/schema.json": schema_json,
    "docs/config.md": config_page,
    "docs/reasons.md": reasons_page,
}


def main(argv: list[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    args = flags.parse_args(argv)
    outdated = []
    for name, make in GENERATED.items():
        path, text = PROJECT_ROOT / name, make()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        outdated.append(name)
        if not args.check:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if args.check and outdated:
        print(f"out of date: {', '.join(outdated)}; run `make docs` and commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
