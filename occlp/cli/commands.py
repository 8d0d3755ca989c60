"""The commands: ``solve``, ``compare``, ``models`` and ``show``."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Literal

import typer

import occlp as oc
from occlp.cli.output import compare_progress, print_error, print_json, print_line, print_text, solve_progress
from occlp.cli.questions import (
    METHODS,
    Criterion,
    Question,
    Sense,
    default_methods,
    instance_of,
    read_model,
    read_solvers,
)  # fmt: skip

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
SenseOption = Annotated[Sense | None, typer.Option(help="Default: that of the instance, else maximize.")]
CriterionOption = Annotated[
    Criterion | None, typer.Option(help="What is optimised over time. Default: discounted; total with a horizon.")
]
Horizon = Annotated[int | None, typer.Option(metavar="T", help="Number of steps; the states become (t, state).")]
Constraints = Annotated[
    list[str] | None, typer.Option("--constraint", metavar='"COST <= B"', help="Limit on a cost; may be repeated.")
]
Goal = Annotated[list[str] | None, typer.Option(metavar="STATE", help="State to be reached; may be repeated.")]
Reach = Annotated[bool, typer.Option("--reach", help="Ask for the probability of reaching the goal.")]
Strength = Annotated[
    float | None, typer.Option("--kl", metavar="STRENGTH", help="KL penalty towards the uniform policy.")
]
Tolerance = Annotated[float, typer.Option(help="Relative gap that counts as certified.")]
Seconds = Annotated[float | None, typer.Option(help="Time limit of each run.")]
Iterations = Annotated[int | None, typer.Option(help="Limit on the iterations of each run.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampled methods.")]
Backend = Annotated[str | None, typer.Option(help="cvxpy backend of the method lp, such as CLARABEL.")]
Level = Annotated[Literal["float", "interval", "exact"], typer.Option(help="Arithmetic of the certificate.")]
ForecastOption = Annotated[
    bool, typer.Option("--forecast", help="Tell how large the linear program is, and what its backend would need.")
]
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
    criterion: CriterionOption = None,
    horizon: Horizon = None,
    goal: Goal = None,
    reach: Reach = False,
    constraint: Constraints = None,
    kl: Strength = None,
    tol: Tolerance = 1e-8,
    seconds: Seconds = None,
    iterations: Iterations = None,
    seed: Seed = 0,
    backend: Backend = None,
    settings: Settings = None,
    certify: Level = "float",
    save: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Keep the answer for occlp verify.")] = None,
    as_json: Json = False,
) -> None:
    """Find the best policy of MODEL and prove how good it is."""
    with _errors():
        problem = Question(model, discount, settings, sense, criterion, horizon, goal, reach, constraint, kl).problem()
        named = method or ("lp" if backend else None)
        solver = None if named is None else read_solvers([named], backend)[0]
        limit = oc.Limit(seconds=seconds, iterations=iterations)
        broken: oc.SolveError | None = None
        try:
            with solve_progress(model) as progress:
                result = oc.solve(problem, solver, tol=tol, certify=certify, rng=seed, limit=limit, progress=progress)
        except oc.SolveError as error:
            result, broken = error.result, error
        if save is not None:
            oc.save_answer(problem, result, save)
        if as_json:
            from occlp.report.content import policy_rows, result_row

            print_json("solve", model, [result_row(result)], policy=policy_rows(result))
        elif not isinstance(broken, oc.Infeasible):
            from occlp.report.tables import result_table

            print_text(result_table(result))
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
    criterion: CriterionOption = None,
    horizon: Horizon = None,
    goal: Goal = None,
    reach: Reach = False,
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
        problem = Question(model, discount, settings, sense, criterion, horizon, goal, reach, constraint, kl).problem()
        solvers = read_solvers((default_methods(problem) if methods is None else methods).split(","), backend)
        limit = oc.Limit(seconds=seconds, iterations=iterations)
        with compare_progress() as progress:
            table = oc.compare(problem, solvers, rng=seed, tol=tol, limit=limit, progress=progress)
        written = {
            "report": None if report is None else str(table.report(report)),
            "plot": None if plot is None else _plot(table, plot),
        }
        if as_json:
            print_json("compare", model, table.to_records(), **written)
        else:
            from occlp.report.tables import WIDTH, comparison_table

            width = get_terminal_size().columns if sys.stdout.isatty() else WIDTH
            print_text(comparison_table(table, width))
            for what, path in written.items():
                if path is not None:
                    print_line(f"{what} written to {path}")
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
            print_json("models", None, rows)
        else:
            print_text(models_table(rows))


@app.command()
def show(
    model: Model, discount: Discount = None, goal: Goal = None, settings: Settings = None, as_json: Json = False,
    forecast: ForecastOption = False,
) -> None:  # fmt: skip
    """Show the facts of MODEL: sizes, discount, costs, where it comes from, the structure of its graph."""
    from occlp.report.content import model_facts, structure_facts
    from occlp.report.tables import model_table

    with _errors():
        mdp = read_model(model, discount, settings)
        reached = oc.interop.read_states(mdp, goal) if goal else None
        facts = model_facts(mdp, model, instance_of(model)) | structure_facts(mdp, reached)
        program = oc.OccupancyProgram().forecast(mdp) if forecast else None
        if as_json:
            print_json("show", model, [facts if program is None else facts | {"program": vars(program)}])
            return
        print_text(model_table(mdp, facts))
        if program is not None:
            print_line(f"OccupancyProgram: {program}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by occlp solve --save or oc.save_answer.")],
    as_json: Json = False,
) -> None:
    """Check the certificate in FILE against its question and policy, without any solver. Exit code 1: it is false."""
    with _errors():
        answer = oc.load_answer(file)
        try:
            answer.verify()
        except oc.AuditFailed as error:
            print_error(error)
            raise typer.Exit(1) from None
        certificate = answer.certificate
        if as_json:
            optimum = None if certificate.optimum is None else str(certificate.optimum)
            ends = {"lower": certificate.lower, "upper": certificate.upper, "gap": certificate.gap}
            print_json("verify", str(file), [], **ends, level=certificate.level, optimum=optimum)
            return
        typer.echo(f"verified: {_found(certificate)}")
        for text in answer.trusted:
            print_line(f"assuming that {text}")


def _found(certificate: oc.Certificate) -> str:
    """What a certificate says, in words."""
    if certificate.infeasible_by is not None:
        return "no policy keeps the constraints"
    if certificate.unending:
        return "the total has no bound"
    if certificate.lower == certificate.upper and math.isinf(certificate.lower):
        return f"no policy ends well; the optimum is {certificate.lower}"
    exact = "" if certificate.optimum is None else f", exactly {certificate.optimum}"
    return f"the optimum lies in [{certificate.lower!r}, {certificate.upper!r}]{exact}"


@contextmanager
def _errors() -> Iterator[None]:
    """Say what is wrong in one line and leave with the right exit code."""
    try:
        yield
    except oc.SolveError as error:
        print_error(error)
        raise typer.Exit(1) from None
    except oc.OccupancyError as error:
        print_error(error)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise  # the reader has left, which is no error of the question
    except OSError as error:
        print_error(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        raise typer.Exit(2) from None


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
