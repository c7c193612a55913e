"""Curves of a training, and alignments, as PNG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def curves(log: list[dict[str, Any]], evaluations: list[dict[str, Any]], names: tuple[str, ...]) -> bytes:
    """One panel for each loss of the log, and one for the validation's mel distance and CER."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [*names, "validation"]
    figure = Figure(figsize=(4 * min(len(panels), 4), 3 * -(-len(panels) // 4)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // 4), min(len(panels), 4), number + 1)
        series = {name: log} if name != "validation" else {"mel": evaluations, "cer": evaluations}
        for key, entries in series.items():
            points = [(entry["step"], entry[key]) for entry in entries if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=key, marker="." if len(points) < 50 else None)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if name == "validation":
            axes.legend()
    return _png(figure)


def alignments(paths: list[tuple[str, np.ndarray]]) -> bytes:
    """Paths of monotonic alignment search, each of shape (frames, tokens), with a title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(paths), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, path) in enumerate(paths):
        axes = figure.add_subplot(1, len(paths), number + 1)
        axes.imshow(path.T, origin="lower", aspect="auto", interpolation="nearest", cmap="Greys")
        axes.set_title(title)
        axes.set_xlabel("frame")
        axes.set_ylabel("token")
    return _png(figure)


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=80, metadata={"Software": None})
    return data.getvalue()
