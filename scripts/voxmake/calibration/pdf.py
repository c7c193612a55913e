"""Text of a PDF as its reader sees it: what is invisible, tiny or beside the page is taken out, and said.

A PDF can hold text that nobody sees and every extractor reads: white on white, render mode 3, half a point high,
outside the page. Each page's content stream is walked with its graphics state (ISO 32000-1, 8.4 and 9.3), the operators
that show text are divided into seen and hidden ones, and pypdf reads both parts. Not found: text below a picture or
a filled shape, text clipped away, layers that are switched off.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import Rejected

if TYPE_CHECKING:
    from pypdf import PdfReader

_WHITE = 0.95  # from this luminance on a fill is taken for the page's own white
_FAINT = 0.1  # opacity below this can't be read
_EDGE_PT = 1.0  # text may begin so far outside its page
_MAX_DEPTH = 8  # of forms inside forms
_SHOWING = {b"Tj", b"TJ", b"'", b'"'}
_INVISIBLE_MODES = {3, 7}  # neither filled nor stroked


@dataclass
class Page:
    """Text of one page.

    Attributes:
        number: from 1.
        text: what is seen, lines as they stand.
        hidden: what is not seen, as text; reasons: how many pieces of it were dropped for which reason.
        pictures: whether it shows images: a page of them without text is a scan.
    """

    number: int
    text: str
    hidden: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    pictures: bool = False


def read_pages(path: Path, min_font_pt: float, max_pages: int) -> list[Page]:
    """The pages of a PDF.

    Raises:
        Rejected: broken_pdf, encrypted_pdf, scanned_pdf, too_many_pages or missing_file.
    """
    import logging

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # its warnings name objects that mean nothing to a reader
    try:
        with path.open("rb") as stream:
            if b"%PDF-" not in stream.read(1024):
                raise Rejected("broken_pdf", "does not begin as a PDF")
            reader = PdfReader(stream)
            if reader.is_encrypted and not reader.decrypt(""):
                raise Rejected("encrypted_pdf")
            if len(reader.pages) > max_pages:
                raise Rejected("too_many_pages", f"{len(reader.pages)} pages")
            pages = [_page(reader, number, min_font_pt) for number in range(len(reader.pages))]
    except FileNotFoundError:
        raise Rejected("missing_file") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        # What pypdf raises on a file whose objects are not what their places ask for.
        raise Rejected("broken_pdf", f"{type(error).__name__}: {error}".split("\n")[0][:120]) from None
    if not any(page.text.strip() for page in pages):
        pictures = any(page.pictures for page in pages)
        raise Rejected("scanned_pdf", "pictures and no text" if pictures else "no text that can be seen")
    return pages


def _page(reader: PdfReader, number: int, min_font_pt: float) -> Page:
    from pypdf.generic import ContentStream, NameObject

    page = reader.pages[number]
    box = page.cropbox
    sieve = _Sieve(reader, [float(value) for value in (box.left, box.bottom, box.right, box.top)], min_font_pt)
    contents = page.get("/Contents")
    if contents is None:
        return Page(number + 1, "")
    resources = page.get("/Resources", {})
    seen, hidden = sieve.divide(ContentStream(contents.get_object(), reader), _object(resources), _State(), 0)
    page[NameObject("/Contents")] = seen
    text = page.extract_text()
    page[NameObject("/Contents")] = hidden
    return Page(
        number + 1, text, page.extract_text().strip() if sieve.reasons else "", dict(sieve.reasons), sieve.pictures
    )


@dataclass(frozen=True)
class _State:
    """The part of the graphics state that decides whether text is seen. Matrices are (a, b, c, d, e, f)."""

    ctm: tuple[float, ...] = (1, 0, 0, 1, 0, 0)
    size: float = 0.0
    mode: int = 0
    luminance: float = 0.0  # of the fill, 0 black to 1 white
    opacity: float = 1.0


class _Sieve:
    """Divides content streams into what is seen and what is not."""

    def __init__(self, reader: PdfReader, box: list[float], min_font_pt: float):
        self.reader, self.box, self.min_font_pt = reader, box, min_font_pt
        self.reasons: Counter[str] = Counter()
        self.pictures = False

    def divide(self, stream: Any, resources: Any, state: _State, depth: int) -> tuple[Any, Any]:
        """Two content streams with the same operators but those that show text; and those of forms inside."""
        from pypdf.generic import ContentStream

        stack: list[_State] = []
        matrix = line = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        leading = 0.0
        seen: list = []
        hidden: list = []
        for operands, operator in stream.operations:
            if operator == b"Do":
                one, other = self._form(operands, resources, state, depth)
                seen.append(one)
                hidden.append(other)
                continue
            if operator == b"q":
                stack.append(state)
            elif operator == b"Q" and stack:
                state = stack.pop()
            elif operator == b"BT":
                matrix = line = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
            elif operator == b"TL":
                leading = float(operands[0])
            elif operator in (b"Td", b"TD", b"T*", b"'", b'"'):
                x, y = (float(value) for value in operands) if operator in (b"Td", b"TD") else (0.0, -leading)
                leading = -y if operator == b"TD" else leading
                matrix = line = _times((1, 0, 0, 1, x, y), line)
            elif operator == b"Tm":
                matrix = line = tuple(float(value) for value in operands)
            else:
                state = self._set(operator, operands, resources, state)
            if operator in _SHOWING:
                reason = self._hidden(state, _times(matrix, state.ctm))
                if reason and any(_shown(operands)):
                    self.reasons[reason] += 1
                target, other = (hidden, seen) if reason else (seen, hidden)
                target.append((operands, operator))
                if operator in (b"'", b'"'):  # moves to the next line as well
                    other.append(([], b"T*"))
                continue
            seen.append((operands, operator))
            hidden.append((operands, operator))
        parts = []
        for operations in (seen, hidden):
            part = ContentStream(None, self.reader)
            part.operations = operations
            parts.append(part)
        return parts[0], parts[1]

    def _set(self, operator: bytes, operands: list, resources: Any, state: _State) -> _State:
        if operator == b"cm":
            return replace(state, ctm=_times(tuple(float(value) for value in operands), state.ctm))
        if operator == b"Tf":
            return replace(state, size=float(operands[1]))
        if operator == b"Tr":
            return replace(state, mode=int(operands[0]))
        if operator in (b"g", b"rg", b"k", b"sc", b"scn"):
            return replace(state, luminance=_luminance(operands))
        if operator == b"gs":
            named = _object(_object(resources.get("/ExtGState", {})).get(operands[0], {}))
            return replace(state, opacity=float(named.get("/ca", state.opacity)))
        return state

    def _hidden(self, state: _State, matrix: tuple[float, ...]) -> str:
        """Why text that begins here is not seen; empty if it is."""
        a, b, c, d, x, y = matrix
        if state.mode in _INVISIBLE_MODES or state.opacity < _FAINT:
            return "invisible"
        if state.luminance >= _WHITE:
            return "white"
        if min(math.hypot(a, b), math.hypot(c, d)) * state.size < self.min_font_pt:
            return "tiny"
        left, bottom, right, top = self.box
        inside = left - _EDGE_PT <= x <= right + _EDGE_PT and bottom - _EDGE_PT <= y <= top + _EDGE_PT
        return "" if inside else "off_page"

    def _form(self, operands: list, resources: Any, state: _State, depth: int) -> tuple[tuple, tuple]:
        """A form divided in its turn, under two names of its own; a picture stays what it is."""
        from pypdf.generic import ContentStream, NameObject

        objects = _object(resources.get("/XObject", {}))
        form = _object(objects.get(operands[0], {}))
        self.pictures |= form.get("/Subtype") == "/Image"
        if form.get("/Subtype") != "/Form" or depth >= _MAX_DEPTH:
            return (operands, b"Do"), (operands, b"Do")
        matrix = tuple(float(value) for value in form.get("/Matrix", (1, 0, 0, 1, 0, 0)))
        inner = _object(form.get("/Resources", resources))
        state = replace(state, ctm=_times(matrix, state.ctm))
        calls = []
        for kind, part in zip(
            "vh", self.divide(ContentStream(form, self.reader), inner, state, depth + 1), strict=True
        ):
            name = NameObject(f"/{kind}{len(objects)}")
            objects[name] = _with_data(form, part.get_data())
            calls.append(([name], b"Do"))
        return calls[0], calls[1]


def _with_data(form: Any, data: bytes) -> Any:
    from pypdf.generic import DecodedStreamObject

    made = DecodedStreamObject()
    made.update({key: value for key, value in form.items() if key not in ("/Filter", "/DecodeParms", "/Length")})
    made.set_data(data)
    return made


def _object(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value


def _times(first: tuple, second: tuple) -> tuple:
    """The matrix that applies `first`, then `second` (ISO 32000-1, 8.3.4)."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = second
    return (a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m)


def _luminance(operands: list) -> float:
    """0 to 1; of a pattern 0, since nobody can say."""
    values = [float(value) for value in operands if isinstance(value, (int, float)) or hasattr(value, "as_numeric")]
    if len(values) == 1:
        return values[0]
    if len(values) == 3:  # Rec. 709
        return 0.2126 * values[0] + 0.7152 * values[1] + 0.0722 * values[2]
    if len(values) == 4:
        return (1 - min(1.0, sum(values[:3]) / 3)) * (1 - values[3])
    return 0.0


def _shown(operands: list) -> list[str]:
    parts = operands[-1] if operands and isinstance(operands[-1], list) else operands[-1:]
    return [str(part) for part in parts if isinstance(part, (str, bytes)) and str(part).strip()]
