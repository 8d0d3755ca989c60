"""What `import occlp` offers: the names, their documentation, the time it takes, and one version everywhere."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import occlp

ROOT = Path(__file__).resolve().parents[1]
STUB = ast.parse((ROOT / "occlp" / "__init__.pyi").read_text(encoding="utf-8"))

#: Packages that nothing needs before it is used.
HEAVY = {"cvxpy", "gymnasium", "jinja2", "matplotlib", "numba", "pandas", "rich", "scipy.sparse", "typer"}
MOST_SECONDS = 0.15

IMPORT = """
import json, sys, time
before = time.process_time()
import occlp
seconds = time.process_time() - before
print(json.dumps([seconds, sorted(sys.modules)]))
"""


def stub_names():
    imports = [node for node in STUB.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def belongs(thing, name, module):
    """Whether a namespace offers this function or class as its own, and not because it needs it."""
    documented = inspect.isclass(thing) or inspect.isfunction(thing)
    return documented and not name.startswith("_") and f"{thing.__module__}.".startswith(f"{module.__name__}.")


def public_objects():
    """(dotted name, object) of every function and class that `occlp` and its namespaces offer."""
    found = {}
    for name in stub_names():
        offered = getattr(occlp, name)
        if not inspect.ismodule(offered):
            found[name] = offered
            continue
        found |= {f"{name}.{inner}": thing for inner, thing in vars(offered).items() if belongs(thing, inner, offered)}
    return sorted(found.items())


def methods(cls):
    """Public methods and properties that a class defines itself."""
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and not name.startswith("_"):
            yield name, function


def needed_words(thing):
    """Parameters that the documentation of a function or a dataclass has to name."""
    if inspect.isfunction(thing):
        return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]
    if dataclasses.is_dataclass(thing) and thing.__dataclass_params__.init:
        return [
            field.name for field in dataclasses.fields(thing) if field.name in vars(thing).get("__annotations__", {})
        ]
    return []


PUBLIC = public_objects()


def test_the_stub_and_the_package_offer_the_same_names():
    assert sorted(stub_names()) == sorted(occlp.__all__)
    assert len(set(stub_names())) == len(stub_names())
    assert set(stub_names()) <= set(dir(occlp))


@pytest.mark.parametrize("name", stub_names())
def test_every_name_can_be_imported(name):
    assert getattr(occlp, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        occlp.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_everything_public_is_documented(name, thing):
    text = inspect.getdoc(thing) or ""
    summary = text.split("\n\n")[0]
    assert summary.endswith("."), f"{name} needs a summary that is a sentence"
    words = needed_words(thing)
    if words and "." not in name:
        assert re.search(r"^(Parameters|Attributes)\n-{10}", text, re.MULTILINE), f"{name} needs a numpydoc section"
        assert [word for word in words if not re.search(rf"\b{word}\b", text)] == [], f"{name} leaves these out"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (f"{name}.{inner}", method)
        for name, thing in PUBLIC
        if inspect.isclass(thing)
        for inner, method in methods(thing)
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_public_method_is_documented(name, method):
    assert (inspect.getdoc(method) or "").split("\n\n")[0].rstrip(":").strip(), name


def test_importing_is_light():
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, encoding="utf-8", check=True)
        runs.append(json.loads(done.stdout))
    loaded = set(runs[0][1])
    assert loaded & HEAVY == set()
    assert min(seconds for seconds, _ in runs) < MOST_SECONDS


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None
    assert newest is not None
    assert {occlp.__version__} == {project["version"], citation[1], newest[1]}
