"""The shape of the house: arrows point one way, each outside library has one owner, and files stay small.

Everything is read from the source with `ast`; nothing of occlp is imported. Imports under ``if TYPE_CHECKING``
do not count. Each check is also shown a planted violation, so that a check that sees nothing is noticed.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "occlp"
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_AUDIT_LINES = 300

#: A module imports only from layers to its left; modules of one layer may import each other.
LAYERS = (
    "_typing",
    "errors",
    "convex",
    "rationals",
    "storage",
    "blas",
    "parallel",
    "work",
    "kernels",
    "model",
    "arguments",
    "plain",
    "graph",
    "policy",
    "semi_markov",
    "instances",
    "interop",
    "atoms",
    "constraints",
    "shares",
    "terms",
    "problem",
    "standard",
    "residuals",
    "chains",
    "total",
    "bounds",
    "evaluation",
    "factorization",
    "horizon",
    "ratios",
    "proof",
    "certificate",
    "verify",
    "result",
    "encoding",
    "answers",
    "exact",
    "mixture",
    "rollouts",
    "dataset",
    "solvers",
    "tracking",
    "total_tracking",
    "verdict",
    "limit",
    "solving",
    "checking",
    "report",
    "pareto",
    "postoptimal",
    "ratio_objectives",
    "risk",
    "comparison",
    "cli",
    "__main__",
)
#: Layers that may import less than all that lies to their left.
ONLY_FROM = {
    "kernels": {"kernels", "_typing"},
    "verify": {
        "verify", "_typing", "errors", "convex", "model", "arguments", "policy", "atoms", "constraints", "shares",
        "terms", "problem", "standard",
    },
}  # fmt: skip
#: The one module that, like a user, imports the package and its lazy exports.
CLIENT = "cli"
#: What the audit must not reach, not even through others, when it is imported.
KEPT_FROM_VERIFY = ("cvxpy", "numba", "occlp.kernels")
#: Outside libraries and the files or folders that may import them; "*" means all but the kernels.
OWNERS = {
    "numpy": ("*", "occlp/kernels/"),
    "scipy": ("*",),
    "lazy_loader": ("occlp/__init__.py",),
    "numba": ("occlp/kernels/",),
    "cvxpy": ("occlp/convex.py",),
    "flint": ("occlp/rationals.py",),
    "threadpoolctl": ("occlp/blas.py",),
    "gymnasium": ("occlp/interop/gymnasium.py",),
    "matplotlib": ("occlp/report/",),
    "jinja2": ("occlp/report/",),
    "pandas": ("occlp/report/frames.py",),
    "typer": ("occlp/cli/",),
    "rich": ("occlp/report/", "occlp/cli/"),
}


@dataclass(frozen=True)
class Import:
    """One imported module or name, by its full dotted path."""

    name: str
    line: int
    function: str = ""  # the function around it, if any: then the import happens only when that is called


class Source:
    """One module of occlp, from its text."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path  # as in "occlp/solvers/base.py"
        self.tree = ast.parse(text)
        self.n_lines = len(text.splitlines())
        parts = path.removesuffix(".py").split("/")
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    @property
    def layer(self) -> str:
        """The part after ``occlp.``; empty for the package itself."""
        return layer_of(self.name)

    def imports(self) -> list[Import]:
        """All imports that happen at run time."""
        found: list[Import] = []
        self._collect(self.tree, found, "")
        return found

    def _collect(self, node: ast.AST, found: list[Import], function: str) -> None:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for other in node.orelse:
                self._collect(other, found, function)
            return
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, function) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = self._base(node)
            found += [Import(f"{base}.{alias.name}", node.lineno, function) for alias in node.names]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        for child in ast.iter_child_nodes(node):
            self._collect(child, found, function)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        parts = here[: len(here) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def layer_of(name: str) -> str:
    """The layer of a dotted name inside occlp."""
    return f"{name}.".split(".")[1]


def backward_arrows(sources: list[Source]) -> list[str]:
    """Imports of occlp that do not point to the left, and modules that have no place."""
    wrong = []
    for source in sources:
        if not source.layer:
            continue  # the package exports everything, lazily
        if source.layer not in LAYERS:
            wrong.append(f"{source.path}: layer {source.layer!r} has no place in LAYERS")
            continue
        allowed = ONLY_FROM.get(source.layer, set(LAYERS[: LAYERS.index(source.layer) + 1]))
        wrong += [
            f"{source.path}:{imported.line}: {source.layer} must not import {imported.name}"
            for imported in source.imports()
            if imported.name.split(".")[0] == "occlp"
            and layer_of(imported.name) not in allowed
            and source.layer != CLIENT
        ]
    return wrong


def foreign_imports(sources: list[Source]) -> list[str]:
    """Outside libraries imported by others than their owners."""
    wrong = []
    for source in sources:
        for imported in source.imports():
            library = imported.name.split(".")[0]
            if library in sys.stdlib_module_names or library == "occlp":
                continue
            everywhere = "*" in OWNERS.get(library, ()) and source.layer != "kernels"
            if not everywhere and not source.path.startswith(OWNERS.get(library, ())):
                owner = " and ".join(OWNERS.get(library, ("nobody yet",)))
                wrong.append(f"{source.path}:{imported.line}: {library} belongs to {owner}")
    return wrong


def reached_from_verify(sources: list[Source]) -> list[str]:
    """Chains of imports, made when verify is imported, that end in what it must not depend on."""
    modules = {source.name: source for source in sources}
    wrong = []
    queue = [(source, (source.name,)) for source in sources if source.layer == "verify"]
    seen = {source.name for source, _ in queue}
    for source, chain in queue:  # grows
        for imported in source.imports():
            if imported.function and source.layer != "verify":
                continue
            if f"{imported.name}.".startswith(tuple(f"{name}." for name in KEPT_FROM_VERIFY)):
                wrong.append(" -> ".join((*chain, imported.name)))
            parts = imported.name.split(".")
            for depth in range(2, len(parts) + 1):  # importing a module imports the packages around it
                name = ".".join(parts[:depth])
                if name in modules and name not in seen:
                    seen.add(name)
                    queue.append((modules[name], (*chain, name)))
    return wrong


def too_long(sources: list[Source]) -> list[str]:
    """Modules and functions above their limits; docstrings of functions do not count."""
    wrong = []
    for source in sources:
        if source.n_lines > MAX_MODULE_LINES:
            wrong.append(f"{source.path}: {source.n_lines} lines, at most {MAX_MODULE_LINES}")
        functions = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        wrong += [
            f"{source.path}:{node.lineno}: {node.name} has {code_lines(node)} lines, at most {MAX_FUNCTION_LINES}"
            for node in functions
            if code_lines(node) > MAX_FUNCTION_LINES
        ]
    return wrong


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def house() -> list[Source]:
    """Every module of occlp."""
    paths = sorted(ROOT.rglob("*.py"))
    return [Source(path.relative_to(ROOT.parent).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def fake(path: str, *lines: str) -> list[Source]:
    """One planted module."""
    return [Source(path, "\n".join(lines))]


class TestTheHouse:
    def test_it_is_found(self):
        names = {source.name for source in house()}
        assert {"occlp", "occlp.errors", "occlp.model", "occlp.model.mdp"} <= names

    def test_arrows_point_one_way(self):
        assert backward_arrows(house()) == []

    def test_one_owner_per_library(self):
        assert foreign_imports(house()) == []

    def test_the_audit_stands_alone(self):
        assert reached_from_verify(house()) == []

    def test_files_and_functions_are_small(self):
        assert too_long(house()) == []

    def test_the_audit_can_be_read_at_a_sitting(self):
        long = [source.path for source in house() if source.layer == "verify" and source.n_lines >= MAX_AUDIT_LINES]
        assert long == []


class TestArrows:
    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("occlp/errors.py", "from occlp.model import MDP"),
            ("occlp/errors.py", "import occlp.model.mdp"),
            ("occlp/model/mdp.py", "from occlp.policy import Policy"),
            ("occlp/model/mdp.py", "from occlp import policy"),
            ("occlp/model/mdp.py", "from ..policy import Policy"),
            ("occlp/model/__init__.py", "from ..policy import Policy"),
            ("occlp/problem.py", "def f():\n    from occlp.solvers import base"),
            ("occlp/problem.py", "class C:\n    def f(self):\n        import occlp.evaluation as e"),
            ("occlp/problem.py", "try:\n    import occlp.result\nexcept ImportError:\n    pass"),
            ("occlp/problem.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import occlp.result"),
            ("occlp/problem.py", "import occlp"),
            ("occlp/problem.py", "from occlp import solve"),
            ("occlp/kernels/backup.py", "from occlp.errors import InvalidModel"),
            ("occlp/kernels/backup.py", "from occlp.model import MDP"),
            ("occlp/verify/audit.py", "from occlp.certificate import Certificate"),
            ("occlp/verify/audit.py", "from occlp import evaluation"),
            ("occlp/solvers/base.py", "from occlp.solving import solve"),
            ("occlp/novelty.py", ""),
        ],
    )
    def test_planted(self, path, line):
        assert len(backward_arrows(fake(path, line))) == 1

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("occlp/policy.py", "from occlp.model import MDP"),
            ("occlp/model/mdp.py", "from occlp.model.pairs import Pairs"),
            ("occlp/model/mdp.py", "from .pairs import Pairs"),
            ("occlp/model/mdp.py", "from occlp.model import arrays"),
            ("occlp/model/mdp.py", "from __future__ import annotations\nimport os, numpy"),
            ("occlp/errors.py", "if TYPE_CHECKING:\n    from occlp.result import Result"),
            ("occlp/errors.py", "if typing.TYPE_CHECKING:\n    from occlp.result import Result"),
            ("occlp/kernels/backup.py", "from occlp.kernels._jit import jit\nfrom occlp._typing import FloatArray"),
            ("occlp/verify/audit.py", "from occlp.problem import Problem"),
            ("occlp/verify/audit.py", "if TYPE_CHECKING:\n    from occlp.result import Result"),
            ("occlp/__init__.py", "from occlp.cli import main"),
            ("occlp/cli.py", "import occlp as oc\nfrom occlp import solve"),
            ("occlp/__main__.py", "from occlp.cli import main"),
        ],
    )
    def test_allowed(self, path, line):
        assert backward_arrows(fake(path, line)) == []


class TestOwners:
    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("occlp/problem.py", "import cvxpy as cp"),
            ("occlp/solving.py", "def f():\n    import cvxpy"),
            ("occlp/terms/entropies.py", "import cvxpy"),
            ("occlp/terms/entropies.py", "def value():\n    import cvxpy"),
            ("occlp/solvers/occupancy_program.py", "def program():\n    import cvxpy"),
            ("occlp/interop/files.py", "from gymnasium import make"),
            ("occlp/comparison.py", "import matplotlib.pyplot as plt"),
            ("occlp/comparison.py", "from jinja2 import Template"),
            ("occlp/evaluation.py", "from numba import njit"),
            ("occlp/report/page.py", "import typer"),
            ("occlp/certificate.py", "import networkx as nx"),
            ("occlp/kernels/backup.py", "from scipy import sparse"),
            ("occlp/kernels/backup.py", "import pandas"),
            ("occlp/verify/exact.py", "import flint"),
            ("occlp/model/mdp.py", "import requests"),
        ],
    )
    def test_planted(self, path, line):
        assert len(foreign_imports(fake(path, line))) == 1

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("occlp/convex.py", "def load_cvxpy():\n    import cvxpy"),
            ("occlp/interop/gymnasium.py", "import gymnasium"),
            ("occlp/report/figures.py", "import matplotlib.pyplot as plt\nfrom jinja2 import Environment"),
            ("occlp/kernels/_jit.py", "import numba\nimport numpy as np\nimport math"),
            ("occlp/report/frames.py", "def to_frame(self):\n    import pandas"),
            ("occlp/cli/output.py", "import typer\nimport rich.table"),
            ("occlp/model/mdp.py", "from scipy import sparse\nimport numpy as np\nfrom .pairs import Pairs"),
            ("occlp/problem.py", "if TYPE_CHECKING:\n    import cvxpy"),
        ],
    )
    def test_allowed(self, path, line):
        assert foreign_imports(fake(path, line)) == []


class TestTheAudit:
    @pytest.mark.parametrize("last", ["import cvxpy", "from numba import njit", "from occlp.kernels import backup"])
    def test_planted(self, last):
        sources = [
            *fake("occlp/verify/__init__.py", "from occlp.verify.audit import verify"),
            *fake("occlp/verify/audit.py", "from occlp import problem"),
            *fake("occlp/problem.py", "from occlp.terms import KL"),
            *fake("occlp/terms/__init__.py", last),
        ]
        (chain,) = reached_from_verify(sources)
        assert chain.startswith("occlp.verify.audit -> occlp.problem -> occlp.terms -> ")

    def test_planted_in_its_own_functions(self):
        source = fake("occlp/verify/audit.py", "def f():\n    import cvxpy")
        assert reached_from_verify(source) == ["occlp.verify.audit -> cvxpy"]

    def test_a_deferred_import_of_others_is_not_reached(self):
        sources = [
            *fake("occlp/verify/audit.py", "from occlp.problem import Problem"),
            *fake("occlp/problem.py", "def f():\n    import cvxpy", "if TYPE_CHECKING:\n    import numba"),
        ]
        assert reached_from_verify(sources) == []


class TestSizes:
    def test_planted_module(self):
        assert too_long(fake("occlp/long.py", *["x = 1"] * MAX_MODULE_LINES)) == []
        assert too_long(fake("occlp/long.py", *["x = 1"] * (MAX_MODULE_LINES + 1))) == [
            "occlp/long.py: 401 lines, at most 400"
        ]

    @pytest.mark.parametrize("head", ["def f():", "async def f():", "class C:\n  def f(self):"])
    def test_planted_function(self, head):
        body = ["    x = 1"] * (MAX_FUNCTION_LINES - 1)
        docstring = ['    """Say what', "", '    it does."""']
        assert too_long(fake("occlp/long.py", head, *docstring, *body)) == []
        (message,) = too_long(fake("occlp/long.py", head, *docstring, *body, "    x = 1"))
        assert "f has 61 lines, at most 60" in message
