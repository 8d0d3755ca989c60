"""What belongs to an unrolled model, sorted by time: tables [T, S, A] and policies that depend on the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp._typing import FloatArray, IntArray, frozen
from occlp.errors import InvalidProblem
from occlp.horizon.timed_policy import TimedPolicy
from occlp.model import MDP, Pairs
from occlp.model.stages import StageLabels

if TYPE_CHECKING:
    from occlp.evaluation import Evaluation
    from occlp.policy import Policy
    from occlp.problem import Problem


@dataclass(frozen=True, eq=False)
class ByTime:
    """The steps of an unrolled model, and what a result on it says about each of them.

    Attributes
    ----------
    pairs : Pairs
        Index of pairs of the model that was unrolled, without time.
    unrolled : Pairs
        Index of pairs of the unrolled model.
    times : IntArray [N]
        Time of each state of the unrolled model; T at the end.
    states : IntArray [N]
        Its state in the model that was unrolled; −1 at the end.
    source : Evaluation, Policy or None
        Where `policy` and `occupancy` come from.
    """

    pairs: Pairs
    unrolled: Pairs
    times: IntArray  # [N]
    states: IntArray  # [N]
    source: Any = None

    @property
    def horizon(self) -> int:
        """Number of steps T."""
        return int(self.times[-1])

    @property
    def pair_times(self) -> IntArray:
        """Time of each pair of the unrolled model, [pairs]: ``cost * (pair_times < 5)`` counts five steps."""
        return frozen(self.times[self.unrolled.states])

    def table(self, values: Any, fill: float = np.nan) -> FloatArray:
        """Sort numbers of the unrolled model's pairs, [pairs] or [S, A], by time: a [T, S, A] table without the end.

        Pairs that the unrolled model does not have, and those of states that cannot be reached, hold `fill`.
        """
        array, unrolled = np.asarray(values, dtype=np.float64), self.unrolled
        if array.shape == (unrolled.n_states, unrolled.n_actions):
            array = array[unrolled.states, unrolled.actions]
        if array.shape != (unrolled.n_pairs,):
            shapes = f"[pairs] = [{unrolled.n_pairs}] or [S, A] = [{unrolled.n_states}, {unrolled.n_actions}]"
            raise InvalidProblem(f"numbers of the unrolled model's pairs are {shapes}, not {list(array.shape)}.")
        out = np.full((self.horizon, self.pairs.n_states, self.pairs.n_actions), fill)
        inside = unrolled.states[:-1]
        out[self.times[inside], self.states[inside], unrolled.actions[:-1]] = array[:-1]
        return out

    def state_table(self, values: Any, fill: float = np.nan) -> FloatArray:
        """Sort numbers of the unrolled model's states, [S], by time: a [T, S] table without the end."""
        array = np.asarray(values, dtype=np.float64)
        if array.shape != self.times.shape:
            raise InvalidProblem(
                f"numbers of the unrolled model's states are [{len(self.times)}], not {list(array.shape)}."
            )
        out = np.full((self.horizon, self.pairs.n_states), fill)
        out[self.times[:-1], self.states[:-1]] = array[:-1]
        return out

    @property
    def policy(self) -> TimedPolicy:
        """The policy found, as one decision rule a step."""
        found = getattr(self.source, "policy", self.source)
        if found is None:
            raise InvalidProblem("a model has no policy: give oc.by_time a result, an evaluation or a policy.")
        table = self.table(found.pair_probabilities, 0.0)[:, self.pairs.states, self.pairs.actions]
        tops = np.maximum.reduceat(table, self.pairs.start[:-1], axis=1)
        best = table == tops[:, self.pairs.states]
        order = np.where(best, np.arange(self.pairs.n_pairs), self.pairs.n_pairs)
        choice = np.minimum.reduceat(order, self.pairs.start[:-1], axis=1)
        choice = frozen(np.where(tops > 0, choice, -1).astype(np.int32))
        if ((table == 0) | (table == 1)).all():
            return TimedPolicy(self.pairs, choice)
        return TimedPolicy(self.pairs, choice, frozen(table))

    @property
    def occupancy(self) -> FloatArray:
        """Expected visits P(s_t = s, a_t = a) as a [T, S, A] table; each step sums to one."""
        if not hasattr(self.source, "pair_occupancy"):
            raise InvalidProblem("only a result or an evaluation has an occupancy; give oc.by_time one of these.")
        return self.table(self.source.pair_occupancy, 0.0)


def by_time(source: Evaluation | Policy | Problem | MDP) -> ByTime:
    """Sort what belongs to an unrolled model by time.

    Parameters
    ----------
    source : Result, Evaluation, Policy, Problem or MDP
        Of a model made by `MDP.unrolled`.

    Returns
    -------
    ByTime

    Raises
    ------
    InvalidProblem
        For anything else.

    Examples
    --------
    >>> import occlp as oc
    >>> steps = oc.by_time(oc.instances.get("machine-repair").unrolled(2))
    >>> steps.times
    array([0, 1, 1, 2], dtype=int32)
    """
    model = getattr(source, "mdp", source)
    pairs = getattr(model, "pairs", None)
    labels = pairs.state_labels if isinstance(pairs, Pairs) else None
    if not isinstance(pairs, Pairs) or not isinstance(labels, StageLabels):
        raise InvalidProblem("this does not belong to an unrolled model. Make one with mdp.unrolled(horizon).")
    own = None if isinstance(model, MDP) else source
    return ByTime(labels.base, pairs, labels.times, labels.states, own)
