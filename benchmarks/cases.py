"""The questions that are timed, each in a full and a small size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import occlp as oc
from benchmarks import workloads


@dataclass(frozen=True)
class Case:
    """A question of two sizes: the one that is reported, and a small one of the same kind for smoke runs.

    Attributes
    ----------
    name : str
    series : str
        The heading under which it is reported; the cases of a series differ in size or in one number.
    kind : {"plain", "limits", "kl"}
    full, small : callable
        Build the question.
    limit : float
        Seconds at most after which an entrant is given up; see `measure.Rules`.
    """

    name: str
    series: str
    kind: str
    full: Callable[[], oc.Problem]
    small: Callable[[], oc.Problem]
    limit: float = 30.0

    def build(self, *, small: bool) -> oc.Problem:
        """Build the question in one of its sizes."""
        return self.small() if small else self.full()


#: What is said about each series.
SERIES = {
    "garnet": "Random: 10 actions, 5 successors each, γ = .99.",
    "bumpy, γ = .99": "Slippery grids of n × n cells without an end, a twentieth of which pays.",
    "bumpy, γ = .999": "The same, looking further ahead.",
    "bumpy, γ = .9999": "The same, further still: the chains mix within some n² steps.",
    "queue": "Admission to a queue of so many places, γ = .999, start empty: a band of width 3.",
    "inventory": "A store of so many units, 5 orders, γ = .99: a band of width 30.",
    "forest": "Forest management with so many ages, γ = .99: a path, and ways back to its beginning.",
    "garnet with limits": "Garnets with 1, 3 and 5 limits on costs that are uniform on [0, 1).",
    "bumpy with limits": "Grids at γ = .999 with 1, 3 and 5 limits on costs that a twentieth of the cells charge.",
    "other limits": "Limits on the hazards of a grid with a goal (γ = .999), on orders and stock of a store, and on "
    "customers whom a queue rejects.",
    "garnet with KL": "Garnets with a joint KL penalty towards the uniform policy, of several strengths.",
    "bumpy with KL": "Grids at γ = .999 with the same penalty.",
    "chains with KL": "Stores, queues and forests with the same penalty.",
}


def _plain(name: str, series: str, full: Callable[[], oc.MDP], small: Callable[[], oc.MDP], limit: float) -> Case:
    return Case(name, series, "plain", lambda: oc.Problem(full()), lambda: oc.Problem(small()), limit)


def _garnet(size: str, limit: float) -> Case:
    n_states = int(float(size))
    small = {3: 60, 4: 90, 5: 120, 6: 150}[int(size[-1])]
    return _plain(
        f"garnet-{size}", "garnet", lambda: workloads.garnet(n_states), lambda: workloads.garnet(small), limit
    )


def _bumpy(n: int, discount: float, limit: float) -> Case:
    series = f"bumpy, γ = {discount:g}".replace("0.", ".")
    small = {50: 6, 200: 8, 500: 9, 1000: 10}[n]
    return _plain(
        f"bumpy-{n}-{discount:g}".replace("0.", "."),
        series, lambda: workloads.bumpy(n, discount), lambda: workloads.bumpy(small, discount), limit,
    )  # fmt: skip


def _chain(family: str, size: str, limit: float) -> Case:
    build: Callable[[int], oc.MDP] = getattr(workloads, family)
    n = int(float(size))
    small = {4: 20, 5: 40, 6: 60}[int(size[-1])]
    return _plain(f"{family}-{size}", family, lambda: build(n), lambda: build(small), limit)


def _garnet_limits(size: str, k: int, limit: float = 30.0) -> Case:
    names = [f"cost{i}" for i in range(k)]
    return Case(
        f"garnet-{size}-limits{k}", "garnet with limits", "limits",
        lambda: workloads.limited(workloads.garnet(int(float(size)), n_costs=k), names),
        lambda: workloads.limited(workloads.garnet(40, n_costs=k), names), limit,
    )  # fmt: skip


def _bumpy_limits(n: int, k: int, limit: float = 30.0) -> Case:
    names = [f"cost{i}" for i in range(k)]
    return Case(
        f"bumpy-{n}-limits{k}", "bumpy with limits", "limits",
        lambda: workloads.limited(workloads.bumpy(n, 0.999, k), names),
        lambda: workloads.limited(workloads.bumpy(12, 0.99, k), names), limit,
    )  # fmt: skip


def _hazards(n: int, limit: float) -> Case:
    return Case(
        f"hazards-{n}-limits1", "other limits", "limits",
        lambda: workloads.limited(workloads.hazards(n, 0.999), ["hazard"]),
        lambda: workloads.limited(workloads.hazards(8, 0.99), ["hazard"]), limit,
    )  # fmt: skip


def _chain_limits(family: str, size: str, names: list[str], limit: float) -> Case:
    build: Callable[[int], oc.MDP] = getattr(workloads, family)
    return Case(
        f"{family}-{size}-limits{len(names)}", "other limits", "limits",
        lambda: workloads.limited(build(int(float(size))), names),
        lambda: workloads.limited(build(30), names), limit,
    )  # fmt: skip


def _chain_kl(family: str, size: str, strength: float, limit: float = 30.0) -> Case:
    build: Callable[[int], oc.MDP] = getattr(workloads, family)
    return Case(
        f"{family}-{size}-kl{strength:g}", "chains with KL", "kl",
        lambda: workloads.soft(build(int(float(size))), strength),
        lambda: workloads.soft(build(20), strength), limit,
    )  # fmt: skip


def _garnet_kl(size: str, strength: float, limit: float = 30.0) -> Case:
    return Case(
        f"garnet-{size}-kl{strength:g}", "garnet with KL", "kl",
        lambda: workloads.soft(workloads.garnet(int(float(size))), strength),
        lambda: workloads.soft(workloads.garnet(40), strength), limit,
    )  # fmt: skip


def _bumpy_kl(n: int, strength: float, limit: float = 30.0) -> Case:
    return Case(
        f"bumpy-{n}-kl{strength:g}", "bumpy with KL", "kl",
        lambda: workloads.soft(workloads.bumpy(n, 0.999), strength),
        lambda: workloads.soft(workloads.bumpy(6, 0.99), strength), limit,
    )  # fmt: skip


#: Every question, in the order of the page; the sizes of a series grow, so that what is too slow is given up early.
CASES = (
    *(_garnet(size, limit) for size, limit in (("1e3", 30), ("1e4", 30), ("1e5", 30), ("1e6", 60))),
    *(
        _bumpy(n, discount, limit)
        for discount in (0.99, 0.999, 0.9999)
        for n, limit in ((50, 20), (200, 20), (500, 30), (1000, 60))
    ),
    *(_chain(family, size, 20) for family in ("queue", "inventory", "forest") for size in ("1e4", "1e5", "1e6")),
    *(_garnet_limits("1e3", k) for k in (1, 3, 5)),
    *(_garnet_limits(size, 3) for size in ("1e4", "1e5")),
    *(_bumpy_limits(50, k) for k in (1, 3, 5)),
    *(_bumpy_limits(200, k, 110.0) for k in (1, 3, 5)),
    _bumpy_limits(1000, 3, 110.0),
    *(_hazards(n, 30.0) for n in (50, 200)),
    _chain_limits("inventory", "1e4", ["orders", "stock"], 20.0),
    _chain_limits("queue", "1e4", ["rejected"], 20.0),
    *(_garnet_kl("1e3", strength) for strength in (1.0, 0.1, 0.01)),
    *(_garnet_kl(size, 0.1) for size in ("1e4", "1e5")),
    *(_bumpy_kl(50, strength) for strength in (1.0, 0.1, 1e-2, 1e-3, 1e-4)),
    _bumpy_kl(200, 0.1),
    _chain_kl("inventory", "1e4", 1.0),
    _chain_kl("queue", "1e4", 1.0),
    _chain_kl("forest", "1e4", 0.1),
)
