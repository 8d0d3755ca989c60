"""Answers in files: question, policy and certificate as plain data, so that anyone can check them later.

A file is one JSON object: the model as `occlp.interop.save` writes it (in base64), the question, the
policy's probabilities and the certificate. Nothing in it is executed or unpickled, every part is checked
as any other input, and what it claims is believed only after `Answer.verify`.
"""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.certificate import Certificate
from occlp.constraints import Atom, Constraint, LinearExpression
from occlp.errors import InvalidProblem, OccupancyError, Unsupported
from occlp.interop import files
from occlp.model import MDP
from occlp.model.exact import shown
from occlp.plain import plain_array, plain_number, read_json
from occlp.policy import Policy
from occlp.problem import Problem, as_problem, refuse_concave
from occlp.terms import KL, ConditionalKL, OccupancyEntropy, PolicyEntropy, StateEntropy
from occlp.verify import check_certificate

if TYPE_CHECKING:
    import os

    from occlp.result import Result

FORMAT = "occlp-answer"
VERSION = 1
#: Larger files are not opened.
MOST_BYTES = 2**30
#: Terms that a file can hold; those with a reference policy first.
TERMS: dict[str, Any] = {
    "KL": KL,
    "ConditionalKL": ConditionalKL,
    "PolicyEntropy": PolicyEntropy,
    "OccupancyEntropy": OccupancyEntropy,
    "StateEntropy": StateEntropy,
}


@dataclass(frozen=True, eq=False)
class Answer:
    """What a file holds; claims, until they are verified.

    Attributes
    ----------
    problem : Problem
    policy : Policy
    certificate : Certificate
    """

    problem: Problem
    policy: Policy
    certificate: Certificate

    def verify(self) -> bool:
        """Check the certificate against the question and the policy; see `occlp.verify`.

        Returns
        -------
        bool
            True; `AuditFailed` is raised for anything that does not hold.
        """
        check_certificate(self.problem, self.policy, self.certificate)
        return True


def save_answer(problem: Problem | MDP, result: Result, path: str | os.PathLike[str]) -> None:
    """Write a question, the policy of its result and the certificate to a file that `load_answer` reads.

    Parameters
    ----------
    problem : Problem or MDP
    result : Result
    path : path
        Usually ends in ``.json``; an existing file is replaced.

    Raises
    ------
    Unsupported
        For utilities other than entropies, and limits on utilities: they are not plain data.
    InvalidModel
        For labels that cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     oc.save_answer(mdp, oc.solve(mdp), pathlib.Path(folder, "answer.json"))
    ...     oc.load_answer(pathlib.Path(folder, "answer.json")).verify()
    True
    """
    problem = as_problem(problem)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.npz")
        files.save(problem.mdp, model)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "question": _encode_question(problem),
            "policy": result.policy.pair_probabilities.tolist(),
            "certificate": json.loads(result.certificate.to_json()),
            "model": base64.b64encode(model.read_bytes()).decode(),
        }
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def load_answer(path: str | os.PathLike[str]) -> Answer:
    """Read a file that `save_answer` wrote.

    Parameters
    ----------
    path : path

    Raises
    ------
    InvalidProblem
        For files that are damaged, foreign, too large or of a newer version.
    OSError
        When there is no such file, or it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise InvalidProblem(f"{path} is larger than {MOST_BYTES} bytes.")
    text = path.read_bytes()
    try:
        content = read_json(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InvalidProblem("it is no answer that occlp.save_answer wrote")
        if content.get("version") != VERSION:
            raise InvalidProblem(f"its version is {content.get('version')!r}; this occlp reads {VERSION}")
        mdp = _read_model(content["model"])
        problem = _decode_question(mdp, content["question"])
        policy = Policy.from_pairs(mdp.pairs, _numbers(content["policy"], mdp.n_pairs))
        return Answer(problem, policy, Certificate.from_json(json.dumps(content["certificate"])))
    except (OccupancyError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise InvalidProblem(f"{path} cannot be read as an answer: {type(error).__name__}: {error}.") from None


def _read_model(text: Any) -> MDP:
    if not isinstance(text, str):
        raise InvalidProblem("the model is not text")
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidProblem(f"the model is not in base64 ({error})") from None
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.npz")
        model.write_bytes(content)
        return files.load(model)


def _encode_question(problem: Problem) -> dict[str, Any]:
    refuse_concave(problem, "answers in files have")
    goal = np.flatnonzero(problem.goal_states).tolist() if problem.goal is not None else None
    return {
        "sense": problem.sense,
        "criterion": problem.criterion,
        "objective": problem.objective,
        "goal": goal,
        "constraints": {name: _encode_limit(problem, limit) for name, limit in problem.limits.items()},
        "regularizer": _encode_term(problem.regularizer),
        "utility": _encode_term(problem.utility),
    }


def _encode_limit(problem: Problem, limit: Constraint) -> dict[str, Any]:
    terms = []
    for weight, atom in limit.expression.terms:
        what = atom.what
        if atom.kind != "name":  # numbers, one a pair; sets of pairs are ones and zeros
            alone = LinearExpression(((1.0, Atom(atom.kind, atom.what, total=False)),))
            what = alone.coefficients(problem.mdp, 1.0).tolist()
        terms.append([weight, what, atom.total])
    return {"terms": terms, "relation": limit.relation, "bound": limit.bound, "label": limit.label}


def _encode_term(setting: Any) -> dict[str, Any] | None:
    if setting is None:
        return None
    name = type(setting).__name__
    if name not in TERMS:
        raise Unsupported(f"{name} cannot be written to a file; rewards, limits, KL and the entropies can.")
    reference = getattr(setting, "reference", None)
    return {
        "kind": name,
        "strength": setting.strength,
        "reference": None if reference is None else reference.pair_probabilities.tolist(),
    }


def _decode_question(mdp: MDP, plain: Any) -> Problem:
    pairs = mdp.pairs
    goal = plain["goal"]
    if goal is not None:
        if not all(type(state) is int and 0 <= state < mdp.n_states for state in goal):
            raise InvalidProblem(f"the goal {shown(goal)} is not a list of states")
        goal = [pairs.state_name(state) for state in goal]
    return Problem(
        mdp,
        sense=plain["sense"],
        criterion=plain["criterion"],
        constraints={str(name): _decode_limit(mdp, limit) for name, limit in plain["constraints"].items()},
        regularizer=_decode_term(mdp, plain["regularizer"]),
        utility=_decode_term(mdp, plain["utility"]),
        goal=goal,
        objective=plain["objective"],
    )


def _decode_limit(mdp: MDP, plain: Any) -> Constraint:
    terms = []
    for weight, what, total in plain["terms"]:
        if isinstance(what, str):
            atom = Atom("name", what, bool(total))
        else:
            atom = Atom("array", mdp.pairs.table(_numbers(what, mdp.n_pairs), 0.0), bool(total))
        terms.append((plain_number(weight, "a weight"), atom))
    bound = plain_number(plain["bound"], "a bound")
    if plain["relation"] not in ("<=", ">=", "==") or not np.isfinite(bound):
        raise InvalidProblem(f"{plain['relation']!r} {bound!r} is not a limit")
    label = plain["label"]
    expression = LinearExpression(tuple(terms))
    return Constraint(expression, plain["relation"], bound, None if label is None else str(label))


def _decode_term(mdp: MDP, plain: Any) -> Any:
    if plain is None:
        return None
    kind = TERMS[plain["kind"]]
    if plain["reference"] is None:
        return kind(strength=plain["strength"])
    reference = Policy.from_pairs(mdp.pairs, _numbers(plain["reference"], mdp.n_pairs))
    return kind(strength=plain["strength"], reference=reference)


def _numbers(values: Any, count: int) -> Any:
    array = plain_array(values, "a list of the file")
    if len(array) != count:
        raise InvalidProblem(f"the file has {len(array)} numbers where {count} are needed")
    return array
