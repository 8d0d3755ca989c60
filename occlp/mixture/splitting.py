"""Taking stationary policies apart into deterministic ones, and ridding them of needless randomisation."""

from __future__ import annotations

import numpy as np

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.chains.chain import occupancy, policy_chain
from occlp.errors import InvalidProblem, Unsupported
from occlp.evaluation import Evaluation, formulate
from occlp.mixture.lottery import Mixture
from occlp.model import MDP, Pairs
from occlp.policy import Policy, read_policy
from occlp.problem import Problem, as_problem, refuse_concave
from occlp.standard import StandardForm

#: What is left of a pair's mass below this share of it is rounding.
USED_UP = 2e-15
#: Rows of constraints (entries have size one) closer to their bound than this hold with equality.
TIGHT = 1e-12
#: Chains too large for subtraction-free elimination carry errors of this size in every pair.
NOISE = 1e-14


def mixture(problem: Problem | MDP, policy: Policy | Evaluation) -> Mixture:
    """Take a stationary policy apart into deterministic ones: weights w_i with Σ w_i d_i = d.

    Parameters
    ----------
    problem : Problem or MDP
        The model (and criterion) whose occupancies are meant; a policy does not know it.
    policy : Policy, Evaluation or Result
        Any policy of that model.

    Returns
    -------
    Mixture
        At most 1 + (pairs in use − states in use) policies, heaviest first: k + 1 at a vertex of k
        constraints (see `purify`), and one for a policy that does not randomise where it goes.

    Raises
    ------
    InvalidProblem
        When the policy belongs to another model.
    Unsupported
        Under the average criterion, when a deterministic policy has several recurrent classes.

    Notes
    -----
    Drawing an action for each state from π, independently, gives a lottery over deterministic policies with
    *another* occupancy in general: within one life the draws are kept, so a state that is seen twice acts
    alike twice. Instead, mass is peeled off. Let f take in each state an action that d uses. Its occupancy
    d_f lies on the pairs of d, so with w the largest number for which d − w·d_f ≥ 0, w > 0 and
    (d − w·d_f) / (1 − w) is again an occupancy: flow equations are linear. Go on with it.

    Each step lowers the excess, pairs in use less states in use, by one at least, and a policy of excess 0
    is deterministic. For let a step empty m ≥ 1 pairs, and with them a set L of states. If L is empty the
    excess falls by m. Else L held mass before, so some pair in use outside L led into it (γ < 1: from a
    state of the initial distribution, which is not in L; average: from the rest of the recurrent
    class); L has no mass now, so that pair is empty, too. Together with one pair of each state of L, m ≥ |L| + 1.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker")
    >>> len(oc.mixture(mdp, oc.Policy.uniform(mdp)))
    3
    """
    problem, policy = _belonging(problem, policy)
    form = formulate(problem)
    whole = _pair_occupancy(form, policy.pair_probabilities)
    left = np.where(whole > _noise(form, policy), whole, 0.0)
    most = 1 + len(_extra_pairs(form, left))
    choice = policy.choice
    weights: list[float] = []
    choices: list[IntArray] = []
    while left.any():
        choice = _heaviest(form, left, choice)
        mass = _pair_occupancy(form, _indicator(form, choice))
        used = np.flatnonzero((mass > 0) & (left > 0))
        if not len(used):  # nothing but rounding is left
            break
        shares = left[used] / mass[used]
        weight = float(shares.min())
        left[used] = np.where(shares <= weight, 0.0, left[used] - weight * mass[used])
        left[left <= USED_UP * whole] = 0.0
        weights.append(weight)
        choices.append(choice)
    shares = np.array(weights)
    order = np.argsort(-shares, kind="stable")[:most]  # any further ones are peelings of rounding errors
    return Mixture(policy.pairs, frozen(shares[order] / shares[order].sum()), frozen(np.stack(choices)[order]))


def purify(problem: Problem | MDP, policy: Policy | Evaluation) -> Policy:
    """Return a policy that randomises in at most k states, for k constraints, and is at least as good.

    Parameters
    ----------
    problem : Problem or MDP
        The linear question; its constraints are what randomisation is needed for.
    policy : Policy, Evaluation or Result
        A policy that keeps the constraints; of an optimal one, another optimal one is returned.

    Returns
    -------
    Policy
        It uses only actions of the given policy, breaks no constraint more than that did (to rounding), and
        its objective is not worse. Pairs in use exceed states in use by at most the number of constraints
        that hold with equality; states that are not visited take one action.

    Raises
    ------
    InvalidProblem
        For a problem with a regularizer or a utility, whose optimum randomises by its nature, or a policy of
        another model.
    Unsupported
        With a constraint on a concave utility.

    Notes
    -----
    An occupancy with k tight constraints and more than k extra pairs can move, on its own support, along a
    line that keeps them all: changing the action of a single state s moves d towards d of π with one action
    fixed in s, these directions are linearly independent, and k + 1 of them have a combination on which k
    rows vanish. It moves the way the objective does not fall, until a pair is empty or another constraint
    is tight. At the end d is a vertex (Altman 1999, chapter 3).

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> oc.purify(mdp, oc.Policy.uniform(mdp)).is_deterministic
    True
    """
    problem, policy = _belonging(problem, policy)
    form = formulate(problem)
    if form.term is not None:
        raise InvalidProblem("the optimum of a concave objective randomises by its nature; purify linear problems.")
    refuse_concave(problem, "purify takes")
    limits = form.limits
    tight = np.array(limits.equal)
    while True:
        mass = _pair_occupancy(form, policy.pair_probabilities)
        mass[mass <= _noise(form, policy)] = 0.0
        plain = Policy.from_choice(policy.pairs, policy.choice)  # where a state is not visited
        policy = Policy.from_occupancy(policy.pairs, mass, plain)
        tight = tight | (limits.rows @ mass >= -TIGHT)
        extra = _extra_pairs(form, mass)
        if len(extra) <= tight.sum():
            return policy
        moves = _directions(form, policy, mass, extra[: tight.sum() + 1])
        combination = np.linalg.svd(limits.rows[tight] @ moves)[2][-1] if tight.any() else np.ones(1)
        direction = moves @ combination
        direction = direction if form.rewards @ direction >= 0 else -direction
        policy, tight = _move(form, policy.pairs, mass, direction, tight, plain)


def _move(
    form: StandardForm, pairs: Pairs, mass: FloatArray, direction: FloatArray, tight: BoolArray, plain: Policy
) -> tuple[Policy, BoolArray]:
    """Follow a direction until a pair is empty or a further constraint is tight."""
    falling = np.flatnonzero((direction < 0) & (mass > 0))
    lengths = mass[falling] / -direction[falling]
    length = float(lengths.min())
    slack, rate = -(form.limits.rows @ mass), form.limits.rows @ direction
    meets = ~tight & (rate > 0)
    room = np.where(meets, slack / np.where(meets, rate, 1.0), np.inf)
    empty = falling[lengths <= length]
    if room.min(initial=np.inf) < length:
        length, empty = float(room.min()), empty[:0]
        tight = tight | (room <= length)
    moved = np.maximum(mass + length * direction, 0.0)
    moved[mass == 0] = 0.0
    moved[empty] = 0.0
    return Policy.from_occupancy(pairs, moved, plain), tight


def _directions(form: StandardForm, policy: Policy, mass: FloatArray, extra: IntArray) -> FloatArray:
    """d of π with an extra pair fixed in its state less d with the heaviest pair fixed there, [pairs, extra]."""
    heaviest = _heaviest(form, mass, policy.choice)
    columns, fixed = [], {}
    for pair in extra.tolist():
        state = int(form.states[pair])
        if state not in fixed:
            fixed[state] = _fixed_occupancy(form, policy, int(heaviest[state]))
        difference = _fixed_occupancy(form, policy, pair) - fixed[state]
        columns.append(difference / np.abs(difference).sum())
    return np.column_stack(columns)


def _fixed_occupancy(form: StandardForm, policy: Policy, pair: int) -> FloatArray:
    """Occupancy of the policy that takes one pair in its state and is unchanged elsewhere."""
    changed = np.where(form.states == form.states[pair], 0.0, policy.pair_probabilities)
    changed[pair] = 1.0
    return _pair_occupancy(form, changed)


def _extra_pairs(form: StandardForm, mass: FloatArray) -> IntArray:
    """Pairs in use besides the heaviest one of each state."""
    in_use = mass > 0
    in_use[_heaviest(form, mass, form.start[:-1])] = False
    return np.flatnonzero(in_use).astype(np.int32)


def _heaviest(form: StandardForm, mass: FloatArray, otherwise: IntArray) -> IntArray:
    """The first pair of most mass in each state, `otherwise` where there is none; [S]."""
    first = form.start[:-1]
    top = np.maximum.reduceat(mass, first)
    attained = np.flatnonzero(mass == top[form.states])
    return np.where(top > 0, attained[np.searchsorted(attained, first)], otherwise).astype(np.int32)


def _pair_occupancy(form: StandardForm, probabilities: FloatArray) -> FloatArray:
    chain = policy_chain(form, probabilities)
    chain.require_one_class("lotteries over policies")
    return occupancy(chain)[form.states] * probabilities


def _indicator(form: StandardForm, choice: IntArray) -> FloatArray:
    probabilities = np.zeros(form.n_pairs)
    probabilities[choice] = 1.0
    return probabilities


def _noise(form: StandardForm, policy: Policy) -> float:
    """Mass that may be nothing but rounding: none where elimination is free of subtraction."""
    return 0.0 if policy_chain(form, policy.pair_probabilities).is_small else NOISE


def _belonging(problem: Problem | MDP, policy: Policy | Evaluation) -> tuple[Problem, Policy]:
    problem = as_problem(problem)
    if problem.criterion == "total":
        raise Unsupported(
            "expected visits of a policy that randomises may be those of no lottery: who stays with probability 1/2 "
            "each time stays once on average, and deterministic policies stay never or for ever. Lotteries built "
            "with oc.Mixture.of are evaluated under totals."
        )
    return problem, read_policy(policy, problem.mdp.pairs)
