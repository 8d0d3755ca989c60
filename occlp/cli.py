"""The command line: ``occlp solve``, ``compare``, ``models`` and ``show``.

Answers go to stdout, as a table or (``--json``) as one object with ``rows``; errors and progress go to
stderr. The exit code is 0 for an answer, 1 for a solve that broke its promise, 2 for a bad question.
"""

from __future__ import annotations

import difflib
import json
import operator
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

import occlp as oc

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from occlp.instances.registry import Instance

#: What ``--methods`` and ``--method`` understand, besides the names of the classes.
METHODS = {
    "lp": "OccupancyProgram", "lp-highs": "OccupancyProgram", "lp-clarabel": "OccupancyProgram",
    "lp-scs": "OccupancyProgram", "pi": "PolicyIteration", "mpi": "ModifiedPolicyIteration", "vi": "ValueIteration",
    "pg": "PolicyGradient", "npg": "NaturalPolicyGradient", "md": "MirrorDescent", "reinforce": "Reinforce",
    "ac": "ActorCritic", "a2c": "A2C", "trpo": "TRPO", "ppo": "PPO", "kl": "KLDual", "dec": "Decomposition",
}  # fmt: skip
#: Every row of ``--json`` has these, null where there is no such figure.
COLUMNS = ("solver", "status", "objective", "expected_return", "gap", "seconds")


app = typer.Typer(
    name="occlp", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    help="Solve finite Markov decision processes through occupancy measures, with certificates.",
    epilog="MODEL is a named instance (occlp models), gym:ID for a Gymnasium environment, or an .npz file.",
)  # fmt: skip

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Named instance, gym:ID or .npz file.")]
Discount = Annotated[str | None, typer.Option(metavar="GAMMA", help='Discount, as "0.95" or "19/20".')]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the model; may be repeated.")
]
Sense: TypeAlias = Literal["maximize", "minimize"]
SenseOption = Annotated[Sense | None, typer.Option(help="Default: that of the instance, else maximize.")]
Criterion: TypeAlias = Literal["discounted", "average"]
CriterionOption = Annotated[Criterion, typer.Option(help="What is optimised over time.")]
Constraints = Annotated[
    list[str] | None, typer.Option("--constraint", metavar='"COST <= B"', help="Limit on a cost; may be repeated.")
]
Goal = Annotated[list[str] | None, typer.Option(metavar="STATE", help="State to be reached; may be repeated.")]
Strength = Annotated[
    float | None, typer.Option("--kl", metavar="STRENGTH", help="KL penalty towards the uniform policy.")
]
Tolerance = Annotated[float, typer.Option(help="Relative gap that counts as certified.")]
Seconds = Annotated[float | None, typer.Option(help="Time limit of each run.")]
Iterations = Annotated[int | None, typer.Option(help="Limit on the iterations of each run.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampled methods.")]
Backend = Annotated[str | None, typer.Option(help="cvxpy backend of the method lp, such as CLARABEL.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with rows.")]


def main() -> None:
    """Run the command line (the console entry point)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter shows a question mark
            stream.reconfigure(errors="replace")
    app(prog_name="occlp")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"occlp {oc.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def solve(
    model: Model,
    method: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(METHODS)}. Default: the fastest sound one.")
    ] = None,
    discount: Discount = None,
    sense: SenseOption = None,
    criterion: CriterionOption = "discounted",
    constraint: Constraints = None,
    kl: Strength = None,
    tol: Tolerance = 1e-8,
    seconds: Seconds = None,
    iterations: Iterations = None,
    seed: Seed = 0,
    backend: Backend = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Find the best policy of MODEL and prove how good it is."""
    with _errors():
        problem = _problem(model, _read(model, discount, settings), sense, criterion, constraint, kl)
        named = method or ("lp" if backend else None)
        solver = None if named is None else _solvers([named], backend)[0]
        limit = oc.Limit(seconds=seconds, iterations=iterations)
        broken: oc.SolveError | None = None
        try:
            with _solve_progress(model) as progress:
                result = oc.solve(problem, solver, tol=tol, rng=seed, limit=limit, progress=progress)
        except oc.SolveError as error:
            result, broken = error.result, error
        if as_json:
            from occlp.report.content import policy_rows, result_row

            _print_json("solve", model, [result_row(result)], policy=policy_rows(result))
        elif not isinstance(broken, oc.Infeasible):
            from occlp.report.tables import result_table

            _print(result_table(result))
        if broken is not None:
            raise broken


@app.command()
def compare(
    model: Model,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help=f"Any of {', '.join(METHODS)}. Default: those that fit the question.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page about it.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the convergence picture.")] = None,
    discount: Discount = None,
    sense: SenseOption = None,
    criterion: CriterionOption = "discounted",
    constraint: Constraints = None,
    kl: Strength = None,
    tol: Tolerance = 1e-8,
    seconds: Seconds = None,
    iterations: Iterations = None,
    seed: Seed = 0,
    backend: Backend = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Lay several methods on MODEL side by side. A method that fails is a row that says why."""
    with _errors():
        _check_outputs(report, plot)
        problem = _problem(model, _read(model, discount, settings), sense, criterion, constraint, kl)
        solvers = _solvers((_default_methods(problem) if methods is None else methods).split(","), backend)
        limit = oc.Limit(seconds=seconds, iterations=iterations)
        with _compare_progress() as progress:
            table = oc.compare(problem, solvers, rng=seed, tol=tol, limit=limit, progress=progress)
        written = {
            "report": None if report is None else str(table.report(report)),
            "plot": None if plot is None else _plot(table, plot),
        }
        if as_json:
            _print_json("compare", model, table.to_records(), **written)
        else:
            from occlp.report.tables import WIDTH, comparison_table

            width = get_terminal_size().columns if sys.stdout.isatty() else WIDTH
            _print(comparison_table(table, width))
            for what, path in written.items():
                if path is not None:
                    typer.echo(f"{what} written to {path}")
        if all(row.result is None for row in table):
            raise typer.Exit(1)


@app.command()
def models(as_json: Json = False) -> None:
    """List the named models."""
    from occlp.report.content import model_facts
    from occlp.report.tables import models_table

    with _errors():
        names = oc.instances.names()
        rows = [model_facts(oc.instances.get(name), name, oc.instances.describe(name)) for name in names]
        if as_json:
            _print_json("models", None, rows)
        else:
            _print(models_table(rows))


@app.command()
def show(
    model: Model, discount: Discount = None, goal: Goal = None, settings: Settings = None, as_json: Json = False
) -> None:
    """Show the facts of MODEL: sizes, discount, costs, where it comes from, the structure of its graph."""
    from occlp.report.content import model_facts, structure_facts
    from occlp.report.tables import model_table

    with _errors():
        mdp = _read(model, discount, settings)
        reached = oc.interop.read_states(mdp, goal) if goal else None
        facts = model_facts(mdp, model, _instance(model)) | structure_facts(mdp, reached)
        if as_json:
            _print_json("show", model, [facts])
        else:
            _print(model_table(mdp, facts))


@contextmanager
def _errors() -> Iterator[None]:
    """Say what is wrong in one line and leave with the right exit code."""
    try:
        yield
    except oc.SolveError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except oc.OccupancyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise  # the reader has left, which is no error of the question
    except OSError as error:
        typer.echo(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", err=True)
        raise typer.Exit(2) from None


def _instance(model: str) -> Instance | None:
    return oc.instances.describe(model) if model in oc.instances.names() else None


def _read(model: str, discount: str | None, settings: Sequence[str] | None) -> oc.MDP:
    overrides: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise oc.InvalidProblem(f"--set {setting} is not of the form NAME=VALUE.")
        overrides[name.replace("-", "_")] = _value(value, model.startswith("gym:"))
    if discount is not None:
        overrides["discount"] = discount
    return oc.interop.read_model(model, **overrides)


def _value(text: str, for_gymnasium: bool) -> Any:
    """Read a parameter: integers and booleans as such, fractions as text (exact), except for Gymnasium."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float) if for_gymnasium else (int,):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _problem(
    model: str, mdp: oc.MDP, sense: Sense | None, criterion: Criterion, limits: Sequence[str] | None, kl: float | None
) -> oc.Problem:
    instance = _instance(model)
    own: Sense = "maximize" if instance is None else instance.sense
    if criterion == "average" and mdp.discount is not None:
        mdp = mdp.replace(discount=None)
    constraints: dict[str, oc.Constraint] = {}
    for text in limits or []:
        name, constraint = _constraint(text)
        constraints[text if name in constraints else name] = constraint
    regularizer = None if kl is None else oc.KL(strength=kl, reference=oc.Policy.uniform(mdp))
    return oc.Problem(mdp, sense or own, criterion, constraints, regularizer)


def _constraint(text: str) -> tuple[str, oc.Constraint]:
    """Read "wear <= 0.25"."""
    for sign, compared in (("<=", operator.le), (">=", operator.ge), ("==", operator.eq)):
        name, found, bound = text.partition(sign)
        if found:
            try:
                return name.strip(), compared(oc.expected(name.strip()), float(bound))
            except ValueError:
                break
    raise oc.InvalidProblem(f'--constraint "{text}" is not of the form "COST <= NUMBER", with <=, >= or ==.')


def _default_methods(problem: oc.Problem) -> str:
    """The methods that can answer a question, by their short names."""
    if problem.regularizer is not None:
        return "lp,kl"
    if problem.limits:
        return "lp,dec"
    return "lp,vi,pi" if problem.criterion == "average" else "lp,vi,pi,pg,npg"


def _solvers(names: Sequence[str], backend: str | None) -> list[oc.Solver]:
    """Make the solvers that the names stand for."""
    classes = {name.lower(): name for name in METHODS.values()}
    solvers: list[oc.Solver] = []
    taken = False
    for given in names:
        name = given.strip().lower()
        if name not in METHODS and name not in classes:
            close = difflib.get_close_matches(name, [*METHODS, *classes], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise oc.InvalidProblem(
                f"there is no method {given.strip()!r}.{hint} The methods are {', '.join(METHODS)}."
            )
        kind = METHODS.get(name) or classes[name]
        settings: dict[str, Any] = {}
        if name.startswith("lp-"):
            settings["backend"] = name.removeprefix("lp-").upper()
        elif kind == "OccupancyProgram" and backend is not None:
            settings["backend"], taken = backend, True
        solvers.append(getattr(oc, kind)(**settings))
    if backend is not None and not taken:
        raise oc.InvalidProblem(f"--backend {backend} is for the method lp, which is not among {','.join(names)}.")
    return solvers


def _check_outputs(report: Path | None, plot: Path | None) -> None:
    """Find out before the work, not after it, that its outcome cannot be written."""
    for option, path in (("--report", report), ("--plot", plot)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise oc.InvalidProblem(f"{option} {path} is not a file in a folder that exists.")
    if plot is not None:
        from occlp.report.figures import check_format

        check_format(plot)


def _plot(table: oc.Comparison, path: Path) -> str | None:
    from occlp.report.content import first_runs

    if not first_runs(table):
        typer.echo("no picture is written: no method has an answer to draw", err=True)
        return None
    table.plot(path)
    return str(path)


@contextmanager
def _solve_progress(model: str) -> Iterator[Callable[[int, float], None] | None]:
    """Show iterations and gap while a solve runs, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"solving {model}") as status:
        yield lambda iterations, gap: status.update(f"iteration {iterations}, certified gap {gap:.2g}")


@contextmanager
def _compare_progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show how many runs are done, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print(content: RenderableType) -> None:
    """Print in colour on a terminal, as plain text of fixed width elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(content)
    else:
        from occlp.report.tables import render

        typer.echo(render(content))


def _print_json(command: str, model: str | None, rows: Sequence[dict[str, Any]], **more: Any) -> None:
    from occlp.report.content import plain

    complete = [dict.fromkeys(COLUMNS) | row for row in rows]
    answer = {"command": command, "model": model, "version": oc.__version__, "rows": complete, **more}
    typer.echo(json.dumps(plain(answer), allow_nan=False, indent=2))
