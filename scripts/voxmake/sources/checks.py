"""What an id and a transcript must be, whatever the format they come from."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from voxmake.errors import Rejected

MAX_ID_BYTES = 255
MAX_TEXT_CHARS = 10_000  # 12 minutes of speech; more is a swallowed file, not a clip's transcript
BIDI_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Cc control, Cs lone surrogate (from JSON escapes; can't be written as UTF-8), Zl/Zp the line and
# paragraph separators at which str.splitlines() of other tools would tear the row in two.
FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}


def first_forbidden(text: str) -> str:
    """The first character no id or transcript may hold, as "U+0007", or ""."""
    if text.isascii() and text.isprintable():
        return ""
    return next((f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in FORBIDDEN_CATEGORIES), "")


def check_id(raw: str, prefix: str = "") -> str:
    """The id in NFC, with the source's prefix. It is a name for people; file names are made elsewhere."""
    identifier = unicodedata.normalize("NFC", raw.strip())
    if not identifier:
        raise Rejected("empty_id")
    identifier = unicodedata.normalize("NFC", prefix + identifier)
    if bad := first_forbidden(identifier) or (BIDI_OVERRIDES.search(identifier) and "a bidirectional override"):
        raise Rejected("bad_id", f"the id holds {bad}")
    length = len(identifier.encode())
    if length > MAX_ID_BYTES:
        raise Rejected("bad_id", f"the id is {length} bytes long, at most {MAX_ID_BYTES} are allowed")
    return identifier


def id_key(identifier: str) -> str:
    """Two ids with the same key can't live side by side: on some file systems they are one file."""
    return unicodedata.normalize("NFC", identifier.casefold())


def check_text(raw: str) -> str:
    """The transcript without blanks around it and otherwise unchanged: emoji and joiners are text."""
    if bad := first_forbidden(raw):
        raise Rejected("text_control_chars", f"the transcript holds {bad}")
    text = raw.strip()
    if not text:
        raise Rejected("empty_text")
    if len(text) > MAX_TEXT_CHARS:
        raise Rejected("text_too_long", f"{len(text):,} characters, at most {MAX_TEXT_CHARS:,} are allowed")
    if found := BIDI_OVERRIDES.search(text):
        raise Rejected("text_bidi_override", f"the transcript holds U+{ord(found[0]):04X}")
    return text


def printable(raw: str, max_chars: int = 200) -> str:
    """`raw` for reports: control, override and surrogate characters escaped, cut to a length."""
    shown = "".join(
        c.encode("unicode_escape").decode() if first_forbidden(c) or BIDI_OVERRIDES.match(c) else c for c in raw
    )
    return shown if len(shown) <= max_chars else shown[: max_chars - 1] + "…"


def file_label(file: Path) -> str:
    """A file as messages name it: enough to find it, nothing of the machine's folders."""
    return printable("/".join(file.parts[-2:]))
