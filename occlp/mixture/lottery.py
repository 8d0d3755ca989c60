"""The lottery itself: `Mixture`, and what follows from one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.arguments import read_generator
from occlp.errors import InvalidProblem
from occlp.evaluation import evaluate, formulate
from occlp.model import MDP, Pairs
from occlp.policy import ROW_TOLERANCE, Policy
from occlp.problem import Problem, as_problem


@dataclass(frozen=True, eq=False)
class Mixture:
    """A lottery over deterministic policies, held once at time 0.

    Attributes
    ----------
    pairs : Pairs
        The index of admissible pairs that the policies refer to.
    weights : FloatArray [n]
        Probability of each policy, summing to one; read-only.
    choices : IntArray [n, S]
        Position of the pair that each policy takes in each state; read-only.

    Notes
    -----
    A mixture is not a stationary policy: what it does later depends on the draw. It has the occupancy
    Σ w_i d_i, which `stationary` turns into the stationary policy of the same occupancy.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> result = oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.25]))
    >>> plan = oc.mixture(mdp, result)
    >>> len(plan), bool(abs(plan.evaluate(mdp).expected["wear"] - 0.25) < 1e-12)
    (2, True)
    """

    pairs: Pairs
    weights: FloatArray  # [n]
    choices: IntArray  # [n, S]

    @classmethod
    def of(cls, policies: Sequence[Policy], weights: Any) -> Mixture:
        """Build a mixture from deterministic policies of one model and their probabilities, [n].

        Raises
        ------
        InvalidProblem
            For a policy that randomises or belongs to another model, and for weights that are negative or
            do not sum to 1 (within 1e-9; the rest is divided away).
        """
        shares = np.array(weights, dtype=np.float64)
        if not len(policies) or shares.shape != (len(policies),):
            raise InvalidProblem(f"a mixture has one weight a policy; got {len(policies)} and {list(shares.shape)}.")
        if not (np.isfinite(shares) & (shares >= 0)).all() or abs(shares.sum() - 1) > ROW_TOLERANCE:
            raise InvalidProblem(f"weights of a mixture are not negative and sum to 1; got {shares.tolist()}.")
        pairs = policies[0].pairs
        for n, policy in enumerate(policies):
            if not policy.pairs.same_as(pairs):
                raise InvalidProblem(f"policy {n} of the mixture belongs to another model than policy 0.")
            if not policy.is_deterministic:
                raise InvalidProblem(f"policy {n} of the mixture randomises; oc.mixture() takes such policies apart.")
        if abs(shares.sum() - 1) > 4 * np.finfo(float).eps * len(
            shares
        ):  # else they stay as they are, to the last digit
            shares = shares / shares.sum()
        return cls(pairs, frozen(shares), frozen(np.stack([policy.choice for policy in policies])))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.pairs, self.weights, self.choices)

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[tuple[float, Policy]]:
        return iter(zip(self.weights.tolist(), self.policies, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(f"{weight:.4g}" for weight in self.weights[:6]) + (", ..." if len(self) > 6 else "")
        return f"Mixture({len(self)} deterministic policies of {self.pairs.n_states} states, weights {shown})"

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """The deterministic policies, in the order of the weights."""
        return tuple(Policy.from_choice(self.pairs, choice) for choice in self.choices)

    @property
    def differing(self) -> BoolArray:
        """Mask [S] of the states in which the policies do not all take the same action."""
        return np.asarray((self.choices != self.choices[0]).any(axis=0))

    def sample_policy(self, rng: int | np.random.Generator | None = None) -> Policy:
        """Hold the lottery: return one of the policies, drawn by the weights."""
        return self.policies[int(read_generator(rng).choice(len(self), p=self.weights))]

    def evaluate(self, problem: Problem | MDP) -> MixtureEvaluation:
        """Evaluate the mixture exactly (to rounding) on a question or on a plain model.

        Raises `InvalidProblem` when the mixture belongs to another model.
        """
        problem = as_problem(problem)
        form = formulate(problem)
        drawn = self.weights > 0  # what is never drawn may be infinite
        weights, parts = self.weights[drawn], [evaluate(problem, self.policies[n]) for n in np.flatnonzero(drawn)]
        mass = sum(weight * part.pair_occupancy for weight, part in zip(weights, parts, strict=True))
        values = sum(weight * part.state_values for weight, part in zip(weights, parts, strict=True))
        ends = problem.criterion == "total"
        expected, totals = parts[0].expected, None
        if ends:
            totals = _averaged(weights, [part.expected_total for part in parts])
        else:
            expected = _averaged(weights, [part.expected for part in parts])
        objective = float(weights @ np.array([part.objective for part in parts])) if ends else expected["reward"]
        if form.term is not None:  # concave in the occupancy, so it is that of Σ w_i d_i which counts
            objective = form.to_user(float(form.rewards @ mass) + form.term.value(np.asarray(mass)))
        return MixtureEvaluation(
            mixture=self,
            objective=objective,
            expected=expected,
            pair_occupancy=frozen(np.asarray(mass)),
            state_values=frozen(np.asarray(values)),
            visited=frozen(np.any([part.visited for part in parts], axis=0)),
            discount=form.discount,
            rest=form.rest,
            totals=totals,
        )

    def stationary(self, problem: Problem | MDP) -> Policy:
        """Return the stationary policy that has the occupancy of the mixture: π(a | s) ∝ Σ w_i d_i(s, a)."""
        mass = self.evaluate(problem).pair_occupancy
        return Policy.from_occupancy(self.pairs, mass, self.policies[int(np.argmax(self.weights))])

    def to_json(self) -> str:
        """Write the mixture as one JSON object; weights keep every digit.

        Raises `InvalidProblem` for labels that JSON cannot hold (pickle keeps those).
        """
        pairs = self.pairs
        plain = {
            "format": "occlp-mixture", "version": 1, "weights": self.weights.tolist(), "choices": self.choices.tolist(),
            "start": pairs.start.tolist(), "actions": pairs.actions.tolist(), "n_actions": pairs.n_actions,
            "state_labels": _plain_labels(pairs.state_labels), "action_labels": _plain_labels(pairs.action_labels),
        }  # fmt: skip
        return json.dumps(plain, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Mixture:
        """Read a mixture written by `to_json`; raises `InvalidProblem` (a ValueError) for anything else."""
        try:
            plain: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidProblem(f"this is not an occlp mixture: {error}.") from None
        if not isinstance(plain, dict) or plain.get("format") != "occlp-mixture":
            raise InvalidProblem("this is not an occlp mixture.")
        if plain.get("version") != 1:
            raise InvalidProblem(f"mixture version {plain.get('version')!r} is unknown; this occlp reads version 1.")
        try:
            pairs = Pairs(
                start=frozen(np.array(plain["start"], dtype=np.int32)),
                actions=frozen(np.array(plain["actions"], dtype=np.int32)),
                n_actions=int(plain["n_actions"]),
                state_labels=_read_labels(plain["state_labels"]),
                action_labels=_read_labels(plain["action_labels"]),
            )
            choices = np.array(plain["choices"], dtype=np.int32)
            inside = choices.shape[1:] == (pairs.n_states,) and (
                (choices >= pairs.start[:-1]) & (choices < pairs.start[1:])
            )
            if not np.all(inside):
                raise InvalidProblem("the mixture is altered: a policy takes a pair that is not of its state.")
            return cls.of([Policy.from_choice(pairs, choice) for choice in choices], plain["weights"])
        except (KeyError, TypeError, IndexError) as error:
            raise InvalidProblem(f"the mixture is incomplete or altered: {error!r}.") from None


@dataclass(frozen=True, eq=False, kw_only=True)
class MixtureEvaluation:
    """A mixture and what follows from it; arrays are read-only, units and sense the user's.

    Attributes
    ----------
    mixture : Mixture
    objective : float
        Normalised objective of the occupancy Σ w_i d_i.
    expected : mapping of str to float
        Σ w_i d_i·c for the reward and every cost, normalised.
    pair_occupancy : FloatArray [pairs]
        Σ w_i d_i(s, a), summing to one.
    state_values : FloatArray [S]
        Σ w_i V_i: the plain reward's value of starting in a state and then drawing.
    visited : BoolArray [S]
        States that some policy of the mixture reaches.
    discount, rest : float
        γ and 1 − γ.
    totals : mapping of str to float, optional
        Under the total criterion, where nothing is normalised: the expected totals of the reward and every cost.
    """

    mixture: Mixture
    objective: float
    expected: Mapping[str, float]
    pair_occupancy: FloatArray  # [pairs]
    state_values: FloatArray  # [S]
    visited: BoolArray  # [S]
    discount: float
    rest: float
    totals: Mapping[str, float] | None = None

    @property
    def occupancy(self) -> FloatArray:
        """Σ w_i d_i(s, a) as an [S, A] table; 0 where the pair does not exist."""
        return self.mixture.pairs.table(self.pair_occupancy, 0.0)

    @property
    def state_occupancy(self) -> FloatArray:
        """Σ w_i d_i(s), [S]."""
        return np.add.reduceat(self.pair_occupancy, self.mixture.pairs.start[:-1])

    @property
    def visits(self) -> FloatArray:
        """Expected discounted visits, occupancy / (1 − γ), as an [S, A] table."""
        return self.occupancy if self.totals is not None else self.occupancy / self._discounted("visits")

    @property
    def expected_return(self) -> float:
        """The plain reward on the return scale, Σ μ0(s) V(s)."""
        return self.expected_total["reward"]

    @property
    def expected_total(self) -> Mapping[str, float]:
        """The reward and every cost on the return scale, expected / (1 − γ)."""
        if self.totals is not None:
            return self.totals
        rest = self._discounted("expected_total")
        return {name: value / rest for name, value in self.expected.items()}

    def _discounted(self, name: str) -> float:
        if self.rest == 0:
            raise InvalidProblem(f"{name} is infinite under the average criterion; use objective or expected.")
        return self.rest


def _averaged(weights: FloatArray, parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each entry by the weights, [n]."""
    return {name: float(weights @ np.array([part[name] for part in parts])) for name in parts[0]}


def _restore(pairs: Pairs, weights: FloatArray, choices: IntArray) -> Mixture:
    return Mixture(pairs, frozen(weights), frozen(choices))


def _plain_labels(labels: Any) -> Any:
    """Labels as JSON holds them: tuples become lists, which are no labels themselves."""
    if labels is None or isinstance(labels, str | bool | int | float):
        return labels
    if isinstance(labels, tuple):
        return [_plain_labels(label) for label in labels]
    raise InvalidProblem(f"the label {labels!r} cannot be written as JSON; pickle the mixture instead.")


def _read_labels(labels: Any) -> Any:
    return tuple(_read_labels(label) for label in labels) if isinstance(labels, list) else labels
