"""Mutation testing of the modules that answers are trusted by: each small change to them must fail some test.

    python -m benchmarks.mutation [--target occlp/verify --target occlp/certificate.py] [--sample 300] [--seed 0]
    python -m benchmarks.mutation --again output-of-an-earlier-run.txt    # only what survived then

Tests are collected and run once, which also tells which functions each of them calls. Every mutant is then made in a
forked child by exchanging the code of one function, and the tests that call it are run, the quick ones first, until
one fails. What survives is printed as file, line and change; docs/trust.md says which of these are equivalent.
POSIX only.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import signal
import sys
import time
import types
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ["occlp/verify", "occlp/certificate.py"]
#: Tests that audit answers; those that take longer than this many seconds of the processor are left out.
TESTS = [
    "tests/test_verify_boundaries.py", "tests/exact/test_proofs.py", "tests/test_certificate.py",
    "tests/test_verify_kinds.py", "tests/test_verify.py", "tests/test_average.py::TestCertificate",
    "tests/exact/test_totals.py", "tests/exact/test_levels.py::TestTheAudit",
]  # fmt: skip
LEFT_OUT = "not honest_answers_about and not honest_answers_with and not missing and not brute_force"
LONGEST_TEST, LONGEST_MUTANT = 5.0, 30

COMPARISONS = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
              ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult, ast.MatMult: ast.Mult}  # fmt: skip
NAMES = {"max": "min", "min": "max", "all": "any", "any": "all", "maximum": "minimum", "minimum": "maximum",
         "argmax": "argmin", "argmin": "argmax", "zeros": "ones", "ones": "zeros"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one function, as the source of that function."""

    path: str
    function: str  # qualified name
    line: int
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.change}"

    def put_in_place(self) -> None:
        """Exchange the code of the function, wherever it is referred to."""
        space = {}
        exec(compile("from __future__ import annotations\n" + self.source, self.path, "exec"), space)
        function_of(self.path, self.function).__code__ = space[self.function.rpartition(".")[2]].__code__


def function_of(path: str, name: str) -> types.FunctionType:
    """The function of a file by its qualified name; that inside a property or a class method too."""
    found = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = vars(found)[part]
    for inside in ("fget", "func", "__func__"):
        found = getattr(found, inside, found)
    return found


def variants(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Replacements of one node, each with words."""
    if isinstance(node, ast.Compare):
        for n, operator in enumerate(node.ops):
            for other in COMPARISONS.get(type(operator), []):
                changed = copy.deepcopy(node)
                changed.ops[n] = other()
                yield changed, f"{ast.unparse(node)} -> {ast.unparse(changed)}"
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
        changed = copy.deepcopy(node)
        changed.op = ARITHMETIC[type(node.op)]()
        yield changed, f"{ast.unparse(node)} -> {ast.unparse(changed)}"
    elif isinstance(node, ast.BoolOp):
        changed = copy.deepcopy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield changed, f"{ast.unparse(node)} -> {ast.unparse(changed)}"
        for n in range(len(node.values)):
            fewer = copy.deepcopy(node)
            del fewer.values[n]
            yield (fewer if len(fewer.values) > 1 else fewer.values[0]), f"{ast.unparse(node)} less part {n}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand, f"{ast.unparse(node)} -> {ast.unparse(node.operand)}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        other = node.value + 1 if abs(node.value) >= 1 or node.value == 0 else node.value * 1e6
        yield ast.Constant(other), f"{node.value} -> {other}"
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in NAMES and isinstance(node.ctx, ast.Load):
            changed = copy.deepcopy(node)
            setattr(changed, "id" if isinstance(node, ast.Name) else "attr", NAMES[name])
            yield changed, f"{ast.unparse(node)} -> {ast.unparse(changed)}"
    elif isinstance(node, ast.If | ast.IfExp):
        for value in (True, False):
            changed = copy.deepcopy(node)
            changed.test = ast.Constant(value)
            yield changed, f"if {ast.unparse(node.test)} -> if {value}"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass(), f"{ast.unparse(node)} left out"


class Replace(ast.NodeTransformer):
    """Exchange one node."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the new node for the old one."""
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods by qualified name; not those inside others."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def mutants(path: str) -> Iterator[Mutant]:
    """All mutants of a file; the words of errors and the types of arguments are left alone."""
    for name, function in functions(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        function.decorator_list, function.returns = [], None
        for n, node in enumerate(ast.walk(function)):
            if node in spoken(function):
                continue
            for k in range(len(list(variants(node)))):
                twin = copy.deepcopy(function)
                old = list(ast.walk(twin))[n]
                new, words = list(variants(old))[k]
                source = ast.unparse(ast.fix_missing_locations(Replace(old, new).visit(twin)))
                yield Mutant(path, name, node.lineno, " ".join(words.split()), source)


def spoken(function: ast.FunctionDef) -> set[ast.AST]:
    """Nodes of a function that decide nothing: errors once they are raised, annotations."""
    idle: set[ast.AST] = set()
    for node in ast.walk(function):
        inside = {ast.Raise: "exc", ast.arg: "annotation", ast.AnnAssign: "annotation"}.get(type(node))
        part = None if inside is None else getattr(node, inside)
        idle |= set() if part is None else set(ast.walk(part))
    return idle


class Hunt:
    """A plugin of pytest: runs the tests once, and then again on every mutant that they concern."""

    def __init__(self, found: list[Mutant]) -> None:
        self.mutants, self.survivors, self.killed = found, [], 0
        self.out = os.fdopen(os.dup(1), "w")  # pytest captures the other one
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests once, and then on each mutant in the place of running them."""
        targets = {(mutant.path, mutant.function) for mutant in self.mutants}
        codes = {function_of(*target).__code__: target for target in targets}
        for item in session.items:  # once, to learn who calls what
            sys.setprofile(lambda frame, event, _, seen=self.calls[item.nodeid]: (
                seen.add(codes[frame.f_code]) if event == "call" and frame.f_code in codes else None
            ))  # fmt: skip
            began = time.process_time()
            self.run(session, item)
            sys.setprofile(None)
            self.seconds[item.nodeid] = time.process_time() - began
        for item in session.items:  # what took long may have compiled, or solved what others have from it
            if self.seconds[item.nodeid] > LONGEST_TEST:
                began = time.process_time()
                self.run(session, item)
                self.seconds[item.nodeid] = time.process_time() - began
        assert not session.testsfailed, "the tests fail without any change"
        items = sorted(session.items, key=lambda item: self.seconds[item.nodeid])
        items = [item for item in items if self.seconds[item.nodeid] <= LONGEST_TEST]
        for n, mutant in enumerate(self.mutants):
            mine = [item for item in items if (mutant.path, mutant.function) in self.calls[item.nodeid]]
            if self.dies(session, mutant, mine):
                self.killed += 1
            else:
                self.survivors.append(mutant)
                print(f"survived ({len(mine)} tests): {mutant}", file=self.out, flush=True)
            if n % 25 == 24:
                print(f"{n + 1} of {len(self.mutants)}: {self.killed} killed", file=self.out, flush=True)
        return True

    @staticmethod
    def run(session: pytest.Session, item: pytest.Item) -> None:
        """Run one test."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def dies(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> bool:
        """Whether a test fails, or nothing ends in time, in a child that has the mutant."""
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            signal.setitimer(signal.ITIMER_PROF, LONGEST_MUTANT)  # a loop without end is noticed as well
            mutant.put_in_place()
            for item in items:
                self.run(session, item)
                if session.testsfailed:
                    os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] != 0


def main() -> None:
    """Make mutants of the targets, or a sample of them, and say which survive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", action="append", help=f"file or folder; default: {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, help="how many mutants, drawn at random; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, metavar="FILE", help="only the mutants that survived by this output")
    options = parser.parse_args()
    targets = [ROOT / target for target in options.target or TARGETS]
    paths = [path for target in targets for path in sorted(target.glob("*.py")) or [target]]
    found = [mutant for path in paths for mutant in mutants(path.relative_to(ROOT).as_posix())]
    total = len(found)
    if options.again is not None:
        survived = options.again.read_text(encoding="utf-8")
        found = [mutant for mutant in found if f"): {mutant}\n" in survived]
    if options.sample is not None:
        found = random.Random(options.seed).sample(found, min(options.sample, total))
    began, hunt = time.perf_counter(), Hunt(found)
    quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow", "-k", LEFT_OUT]
    pytest.main([*quiet, *TESTS], plugins=[hunt])
    share, seconds = hunt.killed / len(found), time.perf_counter() - began
    print(f"\n{hunt.killed} of {len(found)} mutants killed ({share:.1%}), {total} in all; {seconds:.0f} s")


if __name__ == "__main__":
    main()
