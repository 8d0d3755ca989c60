"""Every example runs in an interpreter and a folder of its own, without a warning, and says what it should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))

#: What an example needs besides occlp itself.
NEEDS = {
    "compare_frozenlake": "gymnasium",
    "picture_frozenlake": "gymnasium",
    "dask_cluster": "distributed",
    "pytorch_policy": "torch",
}
#: Words that an example prints when it works, and files that it writes.
SAYS = {
    "budget_and_its_price": ["price 1.0603", "no policy keeps all of 'budget'", "difference quotient at 0.25: 1.0603"],
    "compare_frozenlake": ["CERTIFIED", "0.54202593", "written: comparison.html"],
    "dask_cluster": ["PolicyIteration()            CERTIFIED 1022.9885773699 True"],
    "gradient_study": ["of 2 seeds, 20000 samples", "natural, exact               0.00 (  0.00)     0.00 (  0.00)"],
    "kl_towards_a_reference": ["optimum:   2.2561", "CERTIFIED  1.56014492"],
    "machine_repair": ["'broken': 'repair'", "worth 149.4777, or 7.4739 a period", "broken  run   -6.600"],
    "occupancy_lp_by_hand": ["near today: 7.201872 a period", "no policy this near earns more than 7.201872"],
    "picture_frozenlake": ["written: frozenlake.png"],
    "pytorch_policy": ["197 parameters for 109 pairs; optimum -0.2999", "natural gradient, exact  -0.2999"],
    "third_party_solver": ["ScipyDual()        CERTIFIED  148.108252"],
    "where_the_loss_sits": ["  8 iterations: 4.91e-08 below the optimum; the losses of all pairs sum to 4.91e-08"],
}
WRITES = {
    "compare_frozenlake": ["comparison.html", "convergence.png"],
    "picture_frozenlake": ["frozenlake.png"],
    "gradient_study": ["study of riverswim.html", "study of riverswim.png", "study of random.html"],
}
SLOW = {"dask_cluster"}


def run(name, folder):
    """Run an example and return what it prints; warnings are errors except in what Dask starts."""
    strict = [] if NEEDS.get(name) == "distributed" else ["-W", "error"]
    command = [sys.executable, *strict, str(EXAMPLES / f"{name}.py")]
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=environment, timeout=300, check=False, **streams)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", [pytest.param(path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in FILES]
)
def test_an_example_runs(name, tmp_path):
    package = NEEDS.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    printed = run(name, tmp_path)
    for words in SAYS[name]:
        assert words in printed
    for file in WRITES.get(name, []):
        assert (tmp_path / file).stat().st_size > 10_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 70
    assert text.startswith('"""')


def test_an_example_says_what_it_lacks(tmp_path):
    """PyTorch is no dependency of the tests: where it is missing, the example says what to install, and stops."""
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("PyTorch is here")
    command = [sys.executable, "-W", "error", str(EXAMPLES / "pytorch_policy.py")]
    done = subprocess.run(command, cwd=tmp_path, timeout=100, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert done.stderr.strip() == "This example needs PyTorch: pip install torch"


def test_every_example_is_listed_in_its_readme():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if path.name not in listed] == []
