"""The loop: the noise first, then trials of which the best is kept, until they stop paying; at the end the hold-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any

from voxmake.calibration.pairs import Pair
from voxmake.calibration.refine import propose
from voxmake.calibration.trials import Bench, Trial, gain

# Two standard deviations: of differences that are noise alone, one in twenty is as large.
_NOISE_DEVIATIONS = 2.0


@dataclass
class Course:
    """What happened.

    Attributes:
        trials: in order; best: number of the best so far, after each.
        noise: totals of the first prompt's draws, and the floor that follows from them.
        refused: guidance blocks that were not taken.
        stopped: why it ended.
    """

    trials: list[Trial] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    noise: dict[str, Any] = field(default_factory=dict)
    refused: list[dict] = field(default_factory=list)
    stopped: str = ""

    @property
    def winner(self) -> Trial:
        return self.trials[self.best[-1]]


def noise_floor(totals: Sequence[float]) -> float:
    """Two sample standard deviations of the loss of one prompt, drawn several times: less is no change."""
    return round(_NOISE_DEVIATIONS * stdev(totals), 6)


def stop_reason(course: Course, spec: Any) -> str:
    """Why no further trial is made; empty if one is.

    Args:
        spec: max_trials, patience, min_gain, weights.
    """
    made = len(course.trials)
    if made >= spec.max_trials:
        return f"{made} trials are made (calibrate.max_trials)"
    if made <= spec.patience:
        return ""
    before, now = course.trials[course.best[-1 - spec.patience]], course.winner
    lower, base = gain(before, now, spec.weights)
    share = lower / base if base else 0.0
    if lower <= course.noise["floor"]:
        return (
            f"the best loss fell by {lower:.4f} over the last {spec.patience} trials, no more than the noise floor "
            f"{course.noise['floor']:.4f}"
        )
    if share < spec.min_gain:
        return f"the best loss fell by {100 * share:.1f} % over the last {spec.patience} trials, less than {100 * spec.min_gain:g} %"
    return ""


def calibrate(bench: Bench, template: str, pairs: Sequence[Pair], tell: Callable[[Course], None]) -> Course:
    """Run trials until the stop rule says so.

    Args:
        template: the first prompt.
        tell: called after each trial.
    """
    spec, course = bench.spec, Course()
    course.trials.append(bench.trial("trial_000", template, pairs))
    course.best.append(0)
    tell(course)
    draws = [bench.trial(f"noise/draw_{draw}", template, pairs, draw=draw) for draw in range(1, spec.noise_draws)]
    totals = [one.total for one in (course.trials[0], *draws) if one.total is not None]
    if len(totals) < 2:
        course.noise = {"totals": totals, "floor": 0.0}
        course.stopped = "the first prompt could not be measured; see not_measured in trial_000/results.json"
        return course
    course.noise = {"totals": totals, "floor": noise_floor(totals)}
    exhausted: set[str] = set()
    while not (reason := stop_reason(course, spec)):
        name = f"trial_{len(course.trials):03}"
        proposal = propose(bench, course.winner, pairs, exhausted, name)
        if proposal is None:
            reason = "no component has a change left that promises a lower loss"
            break
        course.refused += [{"trial": name, **one} for one in proposal.refused]
        made = bench.trial(name, proposal.template, pairs, proposal.change)
        better = gain(course.winner, made, spec.weights)[0] > 0
        course.trials.append(made)
        course.best.append(len(course.trials) - 1 if better else course.best[-1])
        if better:
            exhausted = set()
        else:
            exhausted.add(proposal.change["component"])
        tell(course)
    course.stopped = reason
    return course


def hold_out(bench: Bench, course: Course, pairs: Sequence[Pair]) -> dict[str, Trial]:
    """The first and the best prompt on pairs that no trial saw."""
    if not pairs:
        return {}
    found = {"first": bench.trial("hold_out/first", course.trials[0].template, pairs)}
    if course.best[-1]:
        found["best"] = bench.trial("hold_out/best", course.winner.template, pairs)
    return found
