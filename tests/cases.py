"""Larger public test cases, read from the folder that holds them where it is present; else there are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import tables
from tables import Case, Table, read_answer

import occlp as oc

FOLDER = next(
    (p / "shared" / "cases" for p in Path(__file__).resolve().parents if (p / "shared" / "cases").is_dir()), None
)

#: Questions of the test-suite of Storm: (id, question, what `tables.ask` is asked, answer).
STORM = [
    ("T01", "two", {"kind": "reach", "goal": "two", "sense": "minimize"}, "1/36"),
    ("T01", "three", {"kind": "reach", "goal": "three", "sense": "maximize"}, "1/18"),
    ("T01", "flips min", {"kind": "earn", "reward": "coinflips", "goal": "done", "sense": "minimize"}, "22/3"),
    ("T01", "flips max", {"kind": "earn", "reward": "coinflips", "goal": "done", "sense": "maximize"}, "22/3"),
    ("T02", "elected", {"kind": "reach", "goal": "elected", "sense": "minimize"}, "1"),
    ("T02", "rounds min", {"kind": "earn", "reward": "rounds", "goal": "elected", "sense": "minimize"}, "30/7"),
    ("T02", "rounds max", {"kind": "earn", "reward": "rounds", "goal": "elected", "sense": "maximize"}, "30/7"),
    ("T03", "coins", {"kind": "reach", "goal": "all_coins_equal_1", "sense": "maximize"}, "57/64"),
    ("T03", "steps max", {"kind": "earn", "reward": "steps", "goal": "finished", "sense": "maximize"}, "75"),
    ("T03", "steps min", {"kind": "earn", "reward": "steps", "goal": "finished", "sense": "minimize"}, "48"),
    ("T03", "steps to coins", {"kind": "earn", "reward": "steps", "goal": "all_coins_equal_1", "sense": "minimize"},
     "inf"),
    ("T04", "grants max", {"kind": "average", "reward": "grants", "sense": "maximize"}, "333/1000"),
    ("T04", "grants min", {"kind": "average", "reward": "grants", "sense": "minimize"}, "0"),
    ("T05", "total", {"kind": "total", "reward": "w_1_total", "sense": "maximize"}, "114/49"),
    ("T05", "task 1", {"kind": "several", "reward": "1", "sense": "maximize",
     "events": {"1": "task1_compl", "2": "task2_compl"},
     "limits": [("w_1_total", ">=", "2.210204082"), ("2", ">=", "1/2")]}, "0.7448979591841851"),
    *(("T06", name, {"kind": "several", "reward": "error", "sense": "maximize",
       "events": {"error": "one_proc_err", "bad": "not one_coin_ok"},
       "limits": [("bad", "<=", "0.1083326097"), *more]}, answer)
      for name, more, answer in [
          ("error", [], "0.1083326097"), ("feasible", [("error", ">=", "0.1")], "0.1083326097"),
          ("infeasible", [("error", ">=", "0.11")], "infeasible"),
      ]),
]  # fmt: skip
#: Chains that take 1e30 steps and more: double precision has the values right but proves no bound; fractions do.
UNPROVED = ("Q05", "Q07")
#: Published answers that are decimals.
DECIMALS = {("T05", "task 1"): 1e-8, ("T06", "error"): 1e-9, ("T06", "feasible"): 1e-9}


@cache
def records() -> dict[str, dict[str, Any]]:
    """All records by their ids."""
    if FOLDER is None:
        return {}
    return {record["id"]: record for record in json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))}


def read(path: str) -> dict[str, Any]:
    """A stored model as it is."""
    with gzip.open(FOLDER / path, "rt", encoding="utf-8") as file:
        return json.load(file)


@lru_cache(maxsize=2)
def stored(path: str) -> Table:
    """A stored model as a table."""
    raw = read(path)
    start = raw["row_start"]
    rows = [
        (s, str(i - start[s]), [(t, Fraction(p)) for t, p in raw["rows"][i]])
        for s in range(raw["n_states"])
        for i in range(start[s], start[s + 1])
    ]
    rewards = {}
    for name, given in raw["rewards"].items():
        state, row = given.get("state", {}), given.get("row", {})
        rewards[name or "reward"] = [
            Fraction(state.get(str(s), 0)) + Fraction(row.get(str(i), 0)) for i, (s, _, _) in enumerate(rows)
        ]
    return Table(raw["n_states"], rows, rewards, raw["initial"][0], raw["labels"])


def storm() -> Iterator[Case]:
    """The questions of `STORM`."""
    for key, name, question, answer in STORM:
        if key in records():
            place = records()[key]["definition"]
            yield Case(
                key, name, lambda p=place["file"], q=question: tables.ask(stored(p), _labelled(stored(p), q)),
                read_answer(answer), place["n_rows"], DECIMALS.get((key, name), 0.0),
            )  # fmt: skip


def _labelled(table: Table, question: dict[str, Any]) -> dict[str, Any]:
    """The question with states in the place of labels."""

    def states(label: str) -> list[int]:
        if label.startswith("not "):
            return sorted(set(range(table.n_states)) - set(table.labels[label.removeprefix("not ")]))
        return table.labels[label]

    found = dict(question)
    if "goal" in found:
        found["goal"] = states(found["goal"])
    if "events" in found:
        found["events"] = {name: states(label) for name, label in found["events"].items()}
    return found


def qcomp() -> Iterator[Case]:
    """Reachability and expected rewards of the models of the Quantitative Verification Competition (QComp)."""
    for key, record in records().items():
        place = record["definition"]
        for name, answer in record["expected"].items() if key.startswith("Q") else ():
            if answer.get("kind") in ("reach_prob", "until_prob", "reach_reward"):
                yield Case(
                    key, name, lambda r=record, n=name: _qcomp(r, n), read_answer(answer["value"]), place["n_rows"],
                    proved=key not in UNPROVED,
                )  # fmt: skip


def _qcomp(record: dict[str, Any], name: str) -> oc.Problem:
    path = record["definition"]["file"]
    table, raw = stored(path), read(path)
    (asked,) = [found for found in raw["objectives"] if found["name"] == name]
    sense = "maximize" if asked.get("opt") == "max" else "minimize"
    if asked["kind"] != "reach_reward":
        return tables.reach(table, asked["goal"], sense, safe=asked.get("safe"))
    reward = asked["reward"] or next(iter(table.rewards))
    if reward == "__steps__":
        table = replace(table, rewards={reward: [Fraction(1)] * len(table.rows)})
    if "herman" in record["name"]:  # the reference is the maximum over all initial states
        table, sense = any_start(table, raw["initial"]), "maximize"
    return tables.earn(table, reward, asked["goal"], sense)


def any_start(table: Table, initial: list[int]) -> Table:
    """The model with one more state, in which the initial state is chosen."""
    start = table.n_states
    rows = [*table.rows, *((start, str(s), [(s, Fraction(1))]) for s in initial)]
    rewards = {name: values + [Fraction(0)] * len(initial) for name, values in table.rewards.items()}
    return Table(start + 1, rows, rewards, start, table.labels)
