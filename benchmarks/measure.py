"""The clock and the judge: all entrants of one question, in turns, in one process."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import occlp as oc
from benchmarks.cases import Case
from benchmarks.entrants import BASE, TOLERANCE, Entrant, chosen
from benchmarks.peers import Answered
from benchmarks.trial import Trial, attempt, can_fork

#: Short runs are repeated up to this many times, as long as they take less than a second in all.
MOST_RUNS = 25
#: Whether somebody is so many times as slow as ours is decided when they have taken this share more.
MARGIN = 1.25
#: Seconds that those whom goals name have in any case.
PATIENCE = 30.0
#: Seconds that ours may take: without it there is nothing to compare with.
OURS = 200.0


@dataclass(frozen=True)
class Rules:
    """How a question is measured.

    Attributes
    ----------
    repeat : int
        Runs of which the median is taken.
    peers : list of str, optional
        Patterns of the names of those who take part besides occlp; default all.
    deadline : float
        Time (of ``time.monotonic``) after which nothing new begins.
    once, once_ours : float
        An entrant whose first run takes longer than this many seconds is not run again; ours has its own number.
    limit : float
        Seconds after which an entrant is given up.
    patient : mapping of str to float
        Entrants who may take longer: until it is decided that they take so many times as long as ours, where the limit
        of the case allows for it.
    slower : mapping of str to float
        Seconds a transition that an entrant needs at least, as another question of the series has shown.
    """

    repeat: int = 5
    peers: list[str] | None = None
    deadline: float = math.inf
    once: float = 2.0
    once_ours: float = 6.0
    limit: float = 10.0
    patient: Mapping[str, float] = field(default_factory=dict)
    slower: Mapping[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass
class Measurement:
    """One entrant on one question; figures are NaN where it was left out, and `why` says so."""

    entrant: str
    why: str = ""
    late: bool = False  # whether it was left out for its time
    gave: float = math.nan  # seconds after which it was given up
    prepare: float = math.nan  # seconds
    seconds: float = math.nan  # by the clock, median
    least: float = math.nan  # of the runs
    processor: float = math.nan  # seconds of all threads, median
    runs: int = 0
    ratio: float = math.nan  # seconds, over those of the first entrant
    processor_ratio: float = math.nan
    peak: float = math.nan  # bytes
    extra: float = math.nan  # bytes beyond the model
    gap: float = math.nan  # of the returned policy, normalised, to the certified bound
    allowed: float = math.nan  # the largest gap that counts as certified
    violation: float = math.nan  # by how much that policy breaks a limit, as a share of the cost's range
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether the policy is within the tolerance of the bound and keeps the limits."""
        return self.gap <= self.allowed and self.violation <= TOLERANCE


@dataclass
class Entry:
    """An entrant while it is measured."""

    entrant: Entrant
    found: Measurement
    policy: Any = None
    answer: Callable[[], Answered] | None = None
    times: list[tuple[float, float]] = field(default_factory=list)


def measure(case: Case, rules: Rules, *, small: bool = False, isolate: bool = True) -> dict[str, Any]:
    """Measure every entrant on a case; a plain record of it, which is complete unless the deadline came first.

    With `isolate` each entrant first runs in a process of its own, which can be given up and whose memory is counted.
    """
    began = time.perf_counter()
    problem = case.build(small=small)
    built = time.perf_counter() - began
    entries = [Entry(entrant, Measurement(entrant.name)) for entrant in chosen(case.kind, rules.peers)]
    accuracy, tried = TOLERANCE * float(np.ptp(problem.mdp.pair_rewards)), entries
    if isolate and can_fork():
        accuracy, tried = _first_runs(entries, case, problem, rules, accuracy)
    _turns([entry for entry in tried if not entry.found.why], case.kind, problem, rules, accuracy)
    _judge(problem, tried)
    mdp = problem.mdp
    size = {"states": mdp.n_states, "pairs": mdp.n_pairs, "nnz": mdp.transitions.nnz, "discount": problem.discount}
    rows = [vars(entry.found) | {"certified": entry.found.certified} for entry in tried]
    name = {"kind": "case", "case": case.name, "small": small, "complete": len(tried) == len(entries)}
    return {**name, **size, "build": built, "took": time.perf_counter() - began, "rows": rows}


def _first_runs(
    entries: list[Entry], case: Case, problem: oc.Problem, rules: Rules, accuracy: float
) -> tuple[float, list[Entry]]:
    """Try everybody apart, until the deadline; the accuracy that ours is allowed, and who was tried."""
    tried, ours = [], math.nan
    for entry in entries:
        if rules.left <= 0 and entry.entrant is not BASE:
            break
        limit = OURS if entry.entrant is BASE else _limit(entry.entrant.name, case, rules, ours)
        trial = _trial(entry, case, problem, rules, accuracy, limit)
        if trial.late and rules.left <= 0:  # it was cut short by the deadline, not by its own limit
            break
        if entry.entrant is BASE and not trial.failure:
            accuracy, ours = trial.notes["allowed"], trial.seconds
        _take(entry, trial, rules)
        tried.append(entry)
    return accuracy, tried


def _limit(name: str, case: Case, rules: Rules, ours: float) -> float:
    """Seconds after which an entrant is given up: soon, or when a goal is decided, if that is soon enough."""
    if name not in rules.patient:
        return min(case.limit, rules.limit)
    decided = MARGIN * rules.patient[name] * ours
    return max(PATIENCE, decided) if decided <= case.limit else PATIENCE


def _trial(entry: Entry, case: Case, problem: oc.Problem, rules: Rules, accuracy: float, limit: float) -> Trial:
    least = rules.slower.get(entry.entrant.name, 0.0) * problem.mdp.transitions.nnz
    if least >= limit and entry.entrant is not BASE:
        return Trial(f"would need more than {least:.0f} s, going by the smaller sizes", late=True)
    return attempt(entry.entrant, case.kind, problem, case.small(), accuracy, max(min(limit, rules.left), 1.0))


def _take(entry: Entry, trial: Trial, rules: Rules) -> None:
    """Keep what a trial has shown; a slow run is the only one."""
    found = entry.found
    found.why, found.late, found.gave, found.prepare = trial.failure, trial.late, trial.gave, trial.prepare
    if trial.failure:
        return
    found.peak, found.extra, found.notes, entry.policy = trial.peak, trial.extra, trial.notes, trial.policy
    if trial.seconds > (rules.once_ours if entry.entrant is BASE else rules.once):
        entry.times = [(trial.seconds, trial.processor)]


def _turns(entries: list[Entry], kind: str, problem: oc.Problem, rules: Rules, accuracy: float) -> None:
    """Time the entrants in turns, with kernels compiled and caches warm."""
    repeated = [entry for entry in entries if not entry.times]
    for entry in repeated:
        began = time.perf_counter()
        try:
            entry.answer = entry.entrant.prepare[kind](problem, accuracy)
            entry.found.prepare = time.perf_counter() - began
            answered = entry.answer()
        except Exception as error:  # whatever a package raises is its result
            entry.found.why = f"{type(error).__name__}: {error}".split("\n")[0][:120]
            continue
        entry.policy, entry.found.notes = answered.policy, dict(answered.notes)
    repeated = [entry for entry in repeated if not entry.found.why]
    for turn in range(MOST_RUNS):
        for entry in repeated:
            spent = sum(wall for wall, _ in entry.times)
            enough = turn >= rules.repeat and spent >= 0.5
            if not enough and (turn == 0 or rules.left > 0):
                entry.times.append(_time(entry.answer))
        if turn + 1 >= rules.repeat == 1:
            break
    base = next((entry for entry in entries if entry.entrant is BASE and entry.times), None)
    for entry in entries:
        if entry.times:
            _sum_up(entry, base)


def _time(answer: Callable[[], Answered] | None) -> tuple[float, float]:
    assert answer is not None
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    answer()
    return time.perf_counter() - wall, time.process_time() - processor


def _sum_up(entry: Entry, base: Entry | None) -> None:
    walls, processors = zip(*entry.times, strict=True)
    found = entry.found
    found.seconds, found.least, found.runs = statistics.median(walls), min(walls), len(walls)
    found.processor = statistics.median(processors)
    if base is not None:
        found.ratio = found.seconds / base.found.seconds
        found.processor_ratio = found.processor / base.found.processor


def _judge(problem: oc.Problem, entries: list[Entry]) -> None:
    """Evaluate every policy exactly, and compare it with the bound that ours certifies."""
    bound = next((entry.found.notes for entry in entries if entry.entrant is BASE and not entry.found.why), None)
    known: dict[bytes, tuple[float, float]] = {}
    for entry in entries:
        if bound is None or entry.policy is None or entry.found.why:
            continue
        key = entry.policy.tobytes()
        known[key] = known.get(key) or _distance(problem, bound, entry.policy)
        entry.found.gap, entry.found.violation = known[key]
        entry.found.allowed = bound["allowed"]


def _distance(problem: oc.Problem, bound: Mapping[str, float], probabilities: Any) -> tuple[float, float]:
    """Gap of a policy, and its largest violation relative to the range of the cost."""
    found = oc.evaluate(problem, oc.Policy.from_pairs(problem.mdp, probabilities))
    gap = bound["upper"] - found.objective if problem.sense == "maximize" else found.objective - bound["lower"]
    violation = 0.0
    for limit in problem.limits.values():  # those of the cases are all upper limits
        cost = limit.expression.coefficients(problem.mdp, problem.rest)
        violation = max(violation, float(found.pair_occupancy @ cost - limit.bound) / float(np.ptp(cost)))
    return max(gap, 0.0), violation
