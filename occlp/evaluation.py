"""What a policy is worth: objective, occupancy, values and advantages, exactly and for any policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from occlp._typing import BoolArray, FloatArray, frozen
from occlp.bounds.lower import lower_with_term
from occlp.chains.chain import Bracket, Chain, occupancy, policy_chain, relative_values
from occlp.errors import InvalidProblem
from occlp.model import MDP, Pairs
from occlp.parallel import inner_product
from occlp.policy import Policy, read_policy
from occlp.problem import Problem, as_problem
from occlp.residuals import pair_residuals, residuals_of
from occlp.standard import ConcaveLimit, StandardForm, standardize
from occlp.terms import Binding
from occlp.total.assessment import TotalAssessment, assess_total
from occlp.total.form import TotalForm, formulate_total

_FORMS: WeakKeyDictionary[Problem, StandardForm] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """A policy and everything that follows from it; arrays are read-only, units and sense the user's.

    Attributes
    ----------
    policy : Policy
    objective : float
        Normalised objective d·r, less the regularizer (plus, when minimising).
    expected : mapping of str to float
        d·c for the reward and every cost, normalised.
    pair_occupancy : FloatArray [pairs]
        d^π(s, a), summing to one.
    state_values : FloatArray [S]
        V^π of the plain reward; for the average criterion the bias h (P* h = 0).
    pair_action_values, pair_advantages : FloatArray [pairs]
        Q^π, and Q^π − V^π computed without cancellation.
    visited : BoolArray [S]
        States that the policy reaches from the initial distribution. Elsewhere its actions are free.
    discount : float
    rest : float
        1 − γ; 0 for the average and the total.
    state_gains : FloatArray [S] or None
        Average criterion, policies with several recurrent classes only: the long-run average from each state.
    totals : mapping of str to float or None
        Total criterion only: the expected totals, which `expected_total` returns. There the occupancy holds
        expected visits, `expected` is not defined, and objective and values are totals.
    utilities : mapping of str to float
        f(d^π) of every constraint f(d) ≥ b on a concave utility, by the constraint's name.
    """

    policy: Policy
    objective: float
    expected: Mapping[str, float]
    pair_occupancy: FloatArray  # [pairs]
    state_values: FloatArray  # [S]
    pair_action_values: FloatArray  # [pairs]
    pair_advantages: FloatArray  # [pairs]
    visited: BoolArray  # [S]
    discount: float
    rest: float
    state_gains: FloatArray | None = None  # [S]
    totals: Mapping[str, float] | None = None
    utilities: Mapping[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> Pairs:
        """The index of pairs, with labels."""
        return self.policy.pairs

    @property
    def has_return(self) -> bool:
        """Whether there is a finite horizon, by discounting or by an end, so that sums of rewards make sense."""
        return self.rest > 0 or self.totals is not None

    @property
    def expected_return(self) -> float:
        """The plain reward on the return scale, Σ μ0(s) V(s)."""
        if self.totals is not None:
            return self.totals["reward"]
        return self.expected["reward"] / self._discounted("expected_return")

    @property
    def expected_total(self) -> Mapping[str, float]:
        """The reward and every cost on the return scale, expected / (1 − γ)."""
        if self.totals is not None:
            return self.totals
        rest = self._discounted("expected_total")
        return {name: value / rest for name, value in self.expected.items()}

    @property
    def gain(self) -> FloatArray:
        """Long-run average reward from each state, [S]; average criterion only.

        It is the same number, to the last bit, in all states of a recurrent class.
        """
        if self.rest > 0 or self.totals is not None:
            raise InvalidProblem("gain belongs to the average criterion; other questions have state_values.")
        if self.state_gains is not None:
            return self.state_gains
        return np.full(self.pairs.n_states, self.expected["reward"])

    @property
    def bias(self) -> FloatArray:
        """What starting in a state is worth beside its gain, [S]; average criterion only.

        The bias h solves g + h = r + Ph with P* h = 0 (Puterman 2005, section 8.2.3); it is `state_values`.
        """
        if self.rest > 0 or self.totals is not None:
            raise InvalidProblem("bias belongs to the average criterion; other questions have state_values.")
        return self.state_values

    def _discounted(self, name: str) -> float:
        if self.rest == 0:
            raise InvalidProblem(f"{name} is infinite under the average criterion; use objective, expected or gain.")
        return self.rest

    @property
    def occupancy(self) -> FloatArray:
        """d^π(s, a) as an [S, A] table summing to one; 0 where the pair does not exist."""
        return self.pairs.table(self.pair_occupancy, 0.0)

    @property
    def state_occupancy(self) -> FloatArray:
        """d^π(s), [S]."""
        return np.add.reduceat(self.pair_occupancy, self.pairs.start[:-1])

    @property
    def visits(self) -> FloatArray:
        """Expected (discounted) visits, occupancy / (1 − γ), as an [S, A] table."""
        if self.totals is not None:
            return self.occupancy
        return self.occupancy / self._discounted("visits")

    @property
    def action_values(self) -> FloatArray:
        """Q^π as an [S, A] table, NaN where the pair does not exist."""
        return self.pairs.table(self.pair_action_values, np.nan)

    @property
    def advantages(self) -> FloatArray:
        """Q^π − V^π as an [S, A] table, NaN where the pair does not exist."""
        return self.pairs.table(self.pair_advantages, np.nan)


@dataclass(frozen=True, eq=False)
class Assessment:
    """An evaluation in the units of the standard form, before anything is converted."""

    chain: Chain
    bracket: Bracket
    state_occupancy: FloatArray  # [S]
    pair_occupancy: FloatArray  # [pairs]
    objective: float  # d·r + f(d)
    lower: float  # a rigorous lower bound of the objective


def evaluate(problem: Problem | MDP, policy: Policy) -> Evaluation:
    """Evaluate any policy exactly (to rounding), on a question or on a plain model.

    Parameters
    ----------
    problem : Problem or MDP
    policy : Policy or Mixture
        Stochastic or deterministic, on the pairs of the same model.

    Returns
    -------
    Evaluation

    Raises
    ------
    InvalidProblem
        When the policy belongs to another model.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker", discount=0.9)
    >>> evaluation = oc.evaluate(mdp, oc.Policy.uniform(mdp))
    >>> float(evaluation.occupancy.sum().round(12))
    1.0
    """
    problem = as_problem(problem)
    of_its_own = getattr(policy, "evaluate", None)
    if of_its_own is not None:  # a mixture of policies evaluates itself
        return of_its_own(problem)  # type: ignore[no-any-return]
    policy = read_policy(policy, problem.mdp.pairs)
    if problem.criterion == "total":
        return to_total_evaluation(problem, policy, assess_total(formulate_total(problem), policy.pair_probabilities))
    form = formulate(problem)
    return to_evaluation(problem, form, policy, assess(form, policy.pair_probabilities))


def formulate(problem: Problem) -> StandardForm:
    """Return the standard form of a problem with its regularizer bound; kept while the problem lives."""
    form = _FORMS.get(problem)
    if form is None:
        form = standardize(problem)
        setting = problem.regularizer or problem.utility
        if setting is not None:
            binding = Binding(problem.mdp, form.scale, partial(_occupancy_of, form))
            form = replace(form, term=setting.bind(binding))
        if problem.concave_limits:
            plain = Binding(problem.mdp, 1.0, partial(_occupancy_of, form))
            bound = [(name, limit.utility.bind(plain), limit.bound) for name, limit in problem.concave_limits.items()]
            form = replace(form, concave=tuple(ConcaveLimit(*parts) for parts in bound))
        _FORMS[problem] = form
    return form


def _occupancy_of(form: StandardForm, policy: Policy) -> FloatArray:
    mass = occupancy(policy_chain(form, policy.pair_probabilities))
    found = mass[form.states] * policy.pair_probabilities
    return frozen(found / found.sum())


def assess(form: StandardForm, probabilities: FloatArray, start: FloatArray | None = None) -> Assessment:
    """Evaluate pair probabilities on a standard form."""
    bonus = None if form.term is None else form.term.pair_bonus(probabilities)
    rewards = form.rewards if bonus is None else form.rewards + bonus
    chain = policy_chain(form, probabilities, rewards)
    bracket = relative_values(chain, start)
    mass = occupancy(chain)
    pair_mass = form.on_pairs(mass)
    pair_mass *= probabilities
    if chain.is_small or form.rest == 0:
        objective = float(inner_product(mass, chain.rewards))
    else:
        rho, _ = chain.residuals(bracket.high, bracket.low if bracket.low.any() else None)
        base = form.rest * float(inner_product(form.initial, bracket.high) + inner_product(form.initial, bracket.low))
        objective = base + float(inner_product(mass, rho))
    objective, lower = min(max(objective, bracket.lower), bracket.upper), bracket.lower
    if form.term is not None and bonus is None:
        objective += form.term.value(pair_mass)
        lower = lower_with_term(form, chain, bracket, probabilities, pair_mass)
    return Assessment(chain, bracket, mass, pair_mass, objective, lower)


def to_evaluation(problem: Problem, form: StandardForm, policy: Policy, found: Assessment) -> Evaluation:
    """Convert an assessment to the user's units and sense."""
    mdp, rest = problem.mdp, form.rest
    if form.term is not None:
        values, advantages, reward, unit = _plain_values(problem, policy, found)
    else:
        values, advantages = _values(form, found.chain, found.bracket, found.objective, policy)
        reward, unit = found.objective, form
    factor = unit.sign * unit.scale
    with np.errstate(over="ignore"):  # overflow is reported as infinity
        state_values = factor * values + (unit.sign * unit.shift / rest if rest else 0.0) + 0.0
        advantages *= factor
    advantages += 0.0
    action_values = form.on_pairs(state_values)
    action_values += advantages
    expected = {"reward": unit.to_user(reward)}
    expected |= {name: float(inner_product(found.pair_occupancy, cost)) for name, cost in mdp.pair_costs.items()}
    return Evaluation(
        policy=policy,
        objective=form.to_user(found.objective),
        expected=expected,
        pair_occupancy=frozen(found.pair_occupancy),
        state_values=frozen(state_values),
        pair_action_values=frozen(action_values),
        pair_advantages=frozen(advantages),
        visited=frozen(found.chain.visited),
        discount=form.discount,
        rest=rest,
        utilities={limit.name: limit.term.value(found.pair_occupancy) for limit in form.concave},
        state_gains=_state_gains(unit, found.chain, policy),
    )


def _state_gains(form: StandardForm, chain: Chain, policy: Policy) -> FloatArray | None:
    """The long-run average of the plain reward from each state, [S]; None where one number says it all."""
    if form.rest > 0 or chain.n_classes == 1:
        return None
    rewards = np.add.reduceat(policy.pair_probabilities * form.rewards, form.start[:-1])
    return frozen(form.sign * (form.shift + form.scale * chain.averages(rewards)) + 0.0)


def to_total_evaluation(problem: Problem, policy: Policy, found: TotalAssessment) -> Evaluation:
    """Convert an assessment of a total to the user's units and sense."""
    total, mdp = formulate_total(problem), problem.mdp
    base = total.base
    factor = base.sign * base.scale
    values = factor * found.values + 0.0
    finite = np.isfinite(found.values)
    scores, _ = pair_residuals(base, np.where(finite, found.values, 0.0), None)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN: neither side is ahead
        known = total.graph.every(finite)
        here = np.where(finite, values, 0.0)[base.states]
        action_values = np.where(known, here + factor * scores, factor * _unending(total, found.values))
        advantages = np.where(known & finite[base.states], factor * scores, action_values - values[base.states]) + 0.0
    live = ~total.goal[base.states]
    totals = {name: total_of(found.visits[live], cost[live]) for name, cost in mdp.pair_costs.items()}
    plain = base.to_user(found.objective) if problem.objective == "reward" and np.isfinite(found.objective) else None
    totals = {"reward": total_of(found.visits[live], mdp.pair_rewards[live]) if plain is None else plain} | totals
    return Evaluation(
        policy=policy,
        objective=base.to_user(found.objective),
        expected=_Undefined("a total has no expectation per step; use expected_total."),
        pair_occupancy=frozen(found.visits),
        state_values=frozen(values),
        pair_action_values=frozen(action_values),
        pair_advantages=frozen(advantages),
        visited=frozen(found.chain.visited),
        discount=1.0,
        rest=0.0,
        totals=totals,
    )


def _unending(total: TotalForm, values: FloatArray) -> FloatArray:
    """What a pair is worth that may lead to states of infinite worth, [pairs]: ±∞, or NaN where both may follow."""
    best, worst = total.graph.some(values == np.inf), total.graph.some(values == -np.inf)
    out = np.where(best, np.where(worst, np.nan, np.inf), -np.inf)
    return np.where(total.graph.some(np.isnan(values)), np.nan, out)


def total_of(visits: FloatArray, cost: FloatArray) -> float:
    """x·c, where what costs nothing counts for nothing however often it is visited."""
    counted = (cost != 0) & (visits > 0)
    with np.errstate(invalid="ignore"):
        return float((visits[counted] * cost[counted]).sum()) + 0.0


class _Undefined(Mapping[str, float]):
    """A mapping without entries that says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __getitem__(self, name: str) -> float:
        raise InvalidProblem(self.reason)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _plain_values(
    problem: Problem, policy: Policy, found: Assessment
) -> tuple[FloatArray, FloatArray, float, StandardForm]:
    """Values of the reward alone, where the objective holds a term as well."""
    form = standardize(replace(problem, regularizer=None, utility=None))
    chain = found.chain.with_rewards(form, policy.pair_probabilities, form.rewards)
    bracket = relative_values(chain)
    reward = min(max(float(inner_product(found.state_occupancy, chain.rewards)), bracket.lower), bracket.upper)
    values, advantages = _values(form, chain, bracket, reward, policy)
    return values, advantages, reward, form


def _values(
    form: StandardForm, chain: Chain, bracket: Bracket, objective: float, policy: Policy
) -> tuple[FloatArray, FloatArray]:
    """State values and pair advantages of a chain, standard form."""
    relative = bracket.high + bracket.low
    if form.rest == 0:
        values = relative - chain.averages(relative)
    elif chain.is_small:
        values = chain.resolvent.columns(chain.rewards)
    else:
        values = relative + (objective - form.rest * float(inner_product(form.initial, bracket.high))) / form.rest
    # The bias of several classes differs from h by a constant for each.
    high, low = (bracket.high, bracket.low) if bracket.gain is None else (values, None)
    rho = residuals_of(form, high, low).scores
    if policy.is_deterministic:
        mean = rho[policy.choice]
    else:
        mean = np.add.reduceat(rho * policy.pair_probabilities, form.start[:-1])
    advantages = form.on_pairs(mean)
    return values, np.subtract(rho, advantages, out=advantages)
