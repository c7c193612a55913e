"""The plots of the quality report, by matplotlib: PNG for the Markdown page, SVG for the HTML page.

Same clips, same bytes: no date, no random ids. In the SVG the colours are CSS variables of the
page, so one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxmake.quality.spec import Quality

_SIZE_INCHES = (4.4, 2.7)
_BINS = 40
# Drawn in these, then replaced by the page's variables; on paper they are what they look like.
_INK, _BAR, _LIMIT, _MARK = "#1f2933", "#3b73b9", "#c2410c", "#c2410d"
_VARIABLES = {_INK: "var(--ink)", _BAR: "var(--bar)", _LIMIT: "var(--limit)", _MARK: "var(--limit)"}


@dataclass(frozen=True)
class Plot:
    """One histogram: which column, and the thresholds to draw in it."""

    name: str
    metric: str
    title: str
    unit: str
    limits: tuple[str, ...] = ()


PLOTS = (
    Plot("duration", "duration_s", "Duration", "s", ("min_duration_s", "max_duration_s")),
    Plot("text_length", "chars", "Text length", "characters", ("max_text_chars",)),
    Plot("rate", "chars_per_s", "Speaking rate", "characters per second"),
    Plot("level", "rms_db", "Level", "dBFS RMS"),
    Plot("snr", "snr_db", "Speech over noise floor", "dB", ("min_snr_db",)),
    Plot("silence", "silence_ratio", "Silence", "share of the clip", ("max_silence_ratio",)),
    Plot("edges", "edge_db", "Louder of both edges", "dB relative to speech", ("max_edge_db",)),
    Plot("bandwidth", "bandwidth_hz", "Bandwidth", "Hz"),
    Plot("dnsmos", "dnsmos_ovrl", "DNSMOS", "OVRL, 1 to 5", ("min_dnsmos",)),
    Plot("speaker_distance", "speaker_distance", "Distance from the speaker's centroid", "cosine distance"),
)


def draw(clips: Sequence[dict[str, Any]], spec: Quality) -> dict[str, tuple[bytes, str]]:
    """Name -> (PNG, SVG element) of every plot whose metric was measured, and of `text_and_speech`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    drawn = {}
    style = {
        "svg.hashsalt": "voxmake", "svg.fonttype": "none", "font.size": 9, "font.family": "DejaVu Sans",
        "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "axes.titlesize": 10,
        "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "xtick.color": _INK, "ytick.color": _INK,
    }  # fmt: skip
    with mpl.rc_context(style):
        for plot in PLOTS:
            values = np.array([clip[plot.metric] for clip in clips if clip[plot.metric] is not None], float)
            if len(values):
                figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
                _histogram(figure.subplots(), values, plot, spec)
                drawn[plot.name] = _both(figure)
        if any(clip["chars"] for clip in clips):
            figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
            _text_and_speech(figure.subplots(), clips)
            drawn["text_and_speech"] = _both(figure)
    return drawn


def _histogram(axes: Any, values: np.ndarray, plot: Plot, spec: Quality) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    if high <= low:  # all alike: one bar, not forty empty ones
        low, high = low - 0.5, high + 0.5
    axes.hist(values, bins=np.linspace(low, high, min(_BINS, max(5, 2 * round(len(values) ** 0.5))) + 1), color=_BAR)
    axes.set(title=plot.title, xlabel=plot.unit, ylabel="clips")
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    span = high - low
    for key in plot.limits:
        limit = float(getattr(spec, key))
        if low - 0.6 * span <= limit <= high + 0.6 * span:  # a far threshold would squeeze the bars
            axes.axvline(limit, color=_LIMIT, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"{limit:g}", (limit, 1), xycoords=("data", "axes fraction"), xytext=(3, -8),
                textcoords="offset points", color=_LIMIT, fontsize=8,
            )  # fmt: skip


def _text_and_speech(axes: Any, clips: Sequence[dict[str, Any]]) -> None:
    """Seconds of speech over characters: what is read as written lies on one line."""
    odd = {"too_fast", "too_slow"}
    styles = ((False, {"s": 6, "color": _BAR, "linewidths": 0}), (True, {"s": 16, "color": _MARK, "marker": "x"}))
    for marked, style in styles:
        chosen = [clip for clip in clips if clip["chars"] and bool(odd & set(clip["reasons"])) == marked]
        # Rasterised where many: 20 000 points as vectors would make the page megabytes heavy.
        axes.scatter(
            [clip["chars"] for clip in chosen], [clip["spoken_s"] for clip in chosen], rasterized=len(clips) > 2000,
            label="too fast or too slow" if marked and chosen else None, **style,
        )  # fmt: skip
    axes.set(title="Text and speech", xlabel="characters", ylabel="s of speech")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _both(figure: Any) -> tuple[bytes, str]:
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = svg.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return png.getvalue(), text
