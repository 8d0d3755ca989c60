"""Mutants: each a small change of one function or one constant of a module.

Operators, comparisons, constants, conditions, `max` for `min`, calls that are left out. The words of errors and the
types of arguments are left alone, for nothing hangs on them.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

COMPARISONS = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
              ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult, ast.MatMult: ast.Mult}  # fmt: skip
NAMES = {"max": "min", "min": "max", "all": "any", "any": "all", "maximum": "minimum", "minimum": "maximum",
         "argmax": "argmin", "argmin": "argmax", "zeros": "ones", "ones": "zeros"}  # fmt: skip
#: Keywords whose truth value is a precaution: lengths that always fit, copies that nobody else writes to.
PRECAUTIONS = ("strict", "copy")


@dataclass(frozen=True)
class Mutant:
    """One change of one function, or of a constant of the module, as source."""

    path: str
    place: str  # qualified name of the function, or the name of the constant
    lines: tuple[int, int]  # those of the statement, of which a test must run one to notice
    change: str
    source: str
    constant: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self.place}: {self.change}"

    @property
    def key(self) -> str:
        """What stays the same as long as the function does."""
        return f"{self} #{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"

    def put_in_place(self) -> None:
        """Exchange the code of the function, or the constant, wherever it is referred to."""
        module = importlib.import_module(module_of(self.path))
        space = dict(vars(module))
        exec(compile("from __future__ import annotations\n" + self.source, self.path, "exec"), space)
        if not self.constant:
            function, changed = function_of(self.path, self.place), space[self.place.rpartition(".")[2]]
            function.__code__, function.__defaults__ = changed.__code__, changed.__defaults__
            function.__kwdefaults__ = changed.__kwdefaults__
            return
        old = vars(module)[self.place]
        for other in [known for name, known in sys.modules.items() if name.startswith("occlp")]:
            if vars(other).get(self.place) is old:
                vars(other)[self.place] = space[self.place]


def module_of(path: str) -> str:
    """The name of the module in a file."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def function_of(path: str, name: str) -> types.FunctionType:
    """The function of a file by its qualified name; that inside a property or a class method too."""
    found: Any = importlib.import_module(module_of(path))
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
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from _constants(node.value)
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


def _constants(value: float) -> Iterator[tuple[ast.AST, str]]:
    """Another number or truth value in the place of one."""
    if isinstance(value, bool):
        other: float = not value
    else:
        other = value + 1 if abs(value) >= 1 or value == 0 else value * 1e6
    yield ast.Constant(other), f"{value} -> {other}"


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
    """All mutants of a file: of its functions, and of the numbers at its top."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = []
    for name, function in functions(tree):
        function.decorator_list, function.returns = [], None
        found += [Mutant(path, name, *change) for change in _changes(function)]
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found += [Mutant(path, node.targets[0].id, *change, constant=True) for change in _changes(node)]
    counts = Counter(map(str, found))
    numbers: Counter[str] = Counter()
    for mutant in found:  # the same words twice in one function are told apart by a number
        numbers[str(mutant)] += 1
        words = f"{mutant.change} [{numbers[str(mutant)]}]" if counts[str(mutant)] > 1 else mutant.change
        yield Mutant(mutant.path, mutant.place, mutant.lines, words, mutant.source, mutant.constant)


def _changes(root: ast.stmt) -> Iterator[tuple[tuple[int, int], str, str]]:
    """Lines, words and source of every change of a statement."""
    idle, lines = spoken(root), statements(root)
    for n, node in enumerate(ast.walk(root)):
        if node in idle:
            continue
        for k in range(len(list(variants(node)))):
            twin = copy.deepcopy(root)
            old = list(ast.walk(twin))[n]
            new, words = list(variants(old))[k]
            source = ast.unparse(ast.fix_missing_locations(Replace(old, new).visit(twin)))
            yield lines[node], " ".join(words.split()), source


def spoken(root: ast.AST) -> set[ast.AST]:
    """Nodes that decide nothing: errors once they are raised, annotations, precautions."""
    idle: set[ast.AST] = set()
    for node in ast.walk(root):
        inside = {ast.Raise: "exc", ast.arg: "annotation", ast.AnnAssign: "annotation"}.get(type(node))
        part = None if inside is None else getattr(node, inside)
        idle |= set() if part is None else set(ast.walk(part))
        if isinstance(node, ast.keyword) and node.arg in PRECAUTIONS:
            idle |= set(ast.walk(node.value))
    return idle


def statements(root: ast.stmt) -> dict[ast.AST, tuple[int, int]]:
    """The lines of the statement that each node belongs to; of one with a body, those above the body."""
    found: dict[ast.AST, tuple[int, int]] = {}

    def walk(node: ast.AST, lines: tuple[int, int]) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else (node.end_lineno or node.lineno)
            lines = (node.lineno, max(last, node.lineno))
        found[node] = lines
        for child in ast.iter_child_nodes(node):
            walk(child, lines)

    walk(root, (root.lineno, root.lineno))
    return found
