"""Labels of a model that is unrolled over time: (t, state), and one end."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from occlp._typing import IntArray, frozen

if TYPE_CHECKING:
    from occlp.model.pairs import Pairs

#: Label of the one state in which every horizon ends.
END = "end"


@dataclass(frozen=True, eq=False)
class StageLabels(Sequence[Hashable]):
    """The labels (t, state) of an unrolled model, made when they are asked for; the last one is ``"end"``.

    Attributes
    ----------
    base : Pairs
        The pairs of the model that was unrolled.
    horizon : int
        Number of steps T.
    times : IntArray [N]
        Time of each state; T at the end.
    states : IntArray [N]
        Its state in the model that was unrolled; −1 at the end.
    """

    base: Pairs
    horizon: int
    times: IntArray  # [N]
    states: IntArray  # [N]

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.base, self.horizon, self.times, self.states)

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return tuple(self[i] for i in range(*position.indices(len(self))))
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        state = int(self.states[position])
        return END if state < 0 else (int(self.times[position]), self.base.state_name(state))

    def __iter__(self) -> Iterator[Hashable]:
        names = [self.base.state_name(s) for s in range(self.base.n_states)]
        for time, state in zip(self.times.tolist(), self.states.tolist(), strict=True):
            yield END if state < 0 else (time, names[state])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]


def _restore(base: Pairs, horizon: int, times: IntArray, states: IntArray) -> StageLabels:
    return StageLabels(base, horizon, frozen(times), frozen(states))
