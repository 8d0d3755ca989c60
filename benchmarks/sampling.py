"""How fast trajectories are sampled: ``python -m benchmarks.sampling``; see ``--help``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import occlp as oc
from benchmarks.machine import record, words_of_load
from benchmarks.plain_loops import chase, step_gymnasium, straightforward
from occlp.rollouts import Sampler, terminal_states

THREADS = min(os.cpu_count() or 1, 8)
LANES = 32
#: Steps of an environment in Python, and rollouts of the small sizes.
FEW = 20_000


@dataclass(frozen=True)
class SamplingCase:
    """A model, sampled under the uniform policy; sizes for the report, and small ones for smoke runs."""

    name: str
    words: str
    full: Callable[[], oc.MDP]
    small: Callable[[], oc.MDP]
    n_trajectories: int
    horizon: int
    env: str | None = None


def _garnet(n_states: int) -> oc.MDP:
    return oc.instances.get("garnet", n_states=n_states, n_actions=10, branching=10, seed=1, discount=0.99)


def _gym(name: str) -> Callable[[], oc.MDP]:
    return lambda: oc.interop.from_gymnasium(name, discount=0.99)


CASES = (
    SamplingCase(
        "FrozenLake", "FrozenLake-v1, at most 100 steps: the tables fit into the first cache",
        _gym("FrozenLake-v1"), _gym("FrozenLake-v1"), 2_000_000, 100, "FrozenLake-v1",
    ),
    SamplingCase(
        "Taxi", "Taxi-v4, at most 200 steps: the tables fit into the second cache",
        _gym("Taxi-v4"), _gym("Taxi-v4"), 200_000, 200, "Taxi-v4",
    ),
    SamplingCase(
        "garnet-1e5", "random, 100,000 states, 10 actions, 10 successors, 1,000 steps: 160 MB of tables",
        lambda: _garnet(100_000), lambda: _garnet(50), 20_000, 1_000,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Entrant:
    """A way to sample: what is timed, and what then reads off steps, mean reward of a step and its error."""

    name: str
    run: Callable[[int], Any]  # of a seed
    read: Callable[[Any], tuple[int, float, float]]


@dataclass(frozen=True)
class Rate:
    """One entrant on one case."""

    case: str
    entrant: str
    rate: float  # million steps a second, median
    work: float  # nanoseconds of one processor a step, median
    ratio: float  # of the work to that of the first entrant
    mean: float  # reward of a step; NaN where there is none
    error: float  # its standard error


def measure(case: SamplingCase, *, small: bool, repeat: int) -> Iterator[Rate]:
    """Time every entrant of a case, in turns."""
    mdp = case.small() if small else case.full()
    n = max(FEW // case.horizon, 200) if small else case.n_trajectories
    found = {entrant: entrant.read(entrant.run(0)) for entrant in entrants(case, mdp, n)}  # compiles
    times: dict[Entrant, list[tuple[float, float]]] = {entrant: [] for entrant in found}
    for turn in range(repeat):
        for entrant, listed in times.items():
            wall, work = time.perf_counter(), time.process_time()
            result = entrant.run(turn)
            wall, work = time.perf_counter() - wall, time.process_time() - work
            steps = entrant.read(result)[0]
            listed.append((1e-6 * steps / wall, 1e9 * work / steps))
            del result
    base = statistics.median(work for _, work in next(iter(times.values())))
    for entrant, listed in times.items():
        rate, work = (statistics.median(column) for column in zip(*listed, strict=True))
        yield Rate(case.name, entrant.name, rate, work, work / base, *found[entrant][1:])


def entrants(case: SamplingCase, mdp: oc.MDP, n: int) -> Iterator[Entrant]:
    """Everybody who samples this case; whole calls are timed, with the making of tables and arrays."""
    policy, ended = oc.Policy.uniform(mdp), terminal_states(mdp)
    request = {"n_trajectories": n, "horizon": case.horizon}
    yield Entrant(
        "occlp rollouts, stored",
        lambda seed: oc.rollouts(mdp, policy, rng=seed, **request),
        lambda sample: _read(mdp, sample.pair_index),
    )
    yield Entrant(
        "occlp rollout_totals, sums only",
        lambda seed: oc.rollout_totals(mdp, policy, rng=seed, **request),
        lambda sample: (sample.n_steps, float(mdp.pair_rewards @ sample.counts) / sample.n_steps, 0.0),
    )
    loop = straightforward(mdp, policy, ended, THREADS)  # its tables are made beforehand
    yield Entrant(
        "the straightforward loop, compiled, stored",
        lambda seed: loop(n, case.horizon, seed),
        lambda paths: _read(mdp, paths),
    )
    if case.env is not None:
        if importlib.util.find_spec("gymnasium"):
            name = case.env
            yield Entrant("Gymnasium, env.step", lambda seed: step_gymnasium(name, FEW, seed), lambda found: found)
        return
    sampler = Sampler(mdp.pair_start, mdp.transitions, mdp.initial, ended)
    n_bytes, reads = sampler.tables([policy.pair_probabilities]).records.nbytes, n * case.horizon
    for lanes, words in ((1, "dependent reads of a table of this size"), (LANES, f"the same, {LANES} in turns")):
        read = chase(n_bytes, THREADS, lanes)
        yield Entrant(words, lambda _, read=read: read(reads), lambda _: (reads, np.nan, np.nan))


def _read(mdp: oc.MDP, paths: Any) -> tuple[int, float, float]:
    """Steps, mean reward of a step, and its error over the first trajectories."""
    some = paths[:FEW]
    rewards = np.where(some >= 0, mdp.pair_rewards[some], 0.0).sum(axis=1)
    lengths = (some >= 0).sum(axis=1)
    mean = rewards.sum() / lengths.sum()
    error = np.std(rewards - mean * lengths) / np.sqrt(len(some)) / lengths.mean()
    return int(np.count_nonzero(paths >= 0)), float(mean), float(error)


def smoke() -> bool:
    """Small sizes of every case, once: all must earn the same, within six standard errors; says which do not."""
    agree = True
    for case in CASES:
        rates = list(measure(case, small=True, repeat=1))
        for found in rates:
            error = np.hypot(rates[0].error, found.error)
            fine = np.isnan(found.mean) or abs(found.mean - rates[0].mean) <= 6 * error
            agree &= bool(fine)
            mark = "ok" if fine else "WRONG"
            earned = f"{found.mean:9.5f} ± {found.error:.5f}"
            print(f"{found.case:16} {found.entrant:44} {earned} {found.rate:8.2f} M/s  {mark}", flush=True)
    return agree


def page(rates: list[Rate], repeat: int, begun: dict[str, Any]) -> str:
    """The page docs/benchmarks-sampling.md; `begun` is the record of the machine when the run began."""
    facts, load = begun["facts"], words_of_load(begun["load"])
    head = (Path(__file__).parent / "sampling_page.md").read_text(encoding="utf-8")
    known = {"date": facts["date"], "processors": facts["processors"], "load": load}
    lines = [head.format(repeat=repeat, threads=THREADS, **known).rstrip()]
    for case in CASES:
        found = [rate for rate in rates if rate.case == case.name]
        if found:
            lines += ["", f"## {case.name}", "", f"{case.words[0].upper()}{case.words[1:]}.", ""]
            lines += ["| sampler | ns of a processor a step | ratio | million steps a second |", "|---|---:|---:|---:|"]
            lines += [f"| {one.entrant} | {one.work:.3g} | {one.ratio:.3g} | {one.rate:.3g} |" for one in found]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--smoke", action="store_true", help="small sizes, once, checking that all earn the same")
    parser.add_argument("--case", action="append", choices=names, help="only this case (may be given several times)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of which the median is taken")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page, as docs/benchmarks-sampling.md")
    chosen = parser.parse_args(arguments)
    if chosen.smoke:
        return 0 if smoke() else 1
    begun, rates = record(), []
    for case in CASES:
        if chosen.case is None or case.name in chosen.case:
            for rate in measure(case, small=False, repeat=chosen.repeat):
                words = f"{rate.work:9.1f} ns  ratio {rate.ratio:8.3g}  {rate.rate:9.3f} M/s"
                print(f"{rate.case:12} {rate.entrant:44} {words}", flush=True)
                rates.append(rate)
    if chosen.write:
        chosen.write.write_text(page(rates, chosen.repeat, begun), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
