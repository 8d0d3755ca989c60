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

from occlp.certificate import Certificate, trusted
from occlp.encoding import decode_question, encode_question, read_pairs
from occlp.errors import InvalidProblem, OccupancyError
from occlp.interop import files
from occlp.model import MDP
from occlp.plain import read_json
from occlp.policy import Policy
from occlp.problem import Problem, as_problem
from occlp.storage import replacing
from occlp.verify import check_certificate

if TYPE_CHECKING:
    import os

    from occlp.result import Result

FORMAT = "occlp-answer"
VERSION = 1
#: Larger files are not opened.
MOST_BYTES = 2**30


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

    @property
    def trusted(self) -> tuple[str, ...]:
        """What has to be believed of the functions of the user; nothing where there are none."""
        return trusted(self.problem)

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
        Usually ends in ``.json``; an existing file is replaced once the new one is complete.

    Raises
    ------
    InvalidModel
        For labels that cannot be written.

    Notes
    -----
    The function of an `oc.Utility` is not written, only its name: the certificate has the affine majorant that
    proves the bound, and that the majorant is one is trusted (``certificate.assumptions``).

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
            "question": encode_question(problem),
            "policy": result.policy.pair_probabilities.tolist(),
            "certificate": json.loads(result.certificate.to_json()),
            "model": base64.b64encode(model.read_bytes()).decode(),
        }
    with replacing(path) as stream:
        stream.write(json.dumps(content).encode())


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
        problem = decode_question(mdp, content["question"])
        policy = Policy.from_pairs(mdp.pairs, read_pairs(content["policy"], mdp.n_pairs))
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
