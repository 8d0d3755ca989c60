"""Models of operations research: maintenance, replacement, inventory, queues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from occlp.errors import InvalidModel
from occlp.instances._build import Number, Row, count, from_rows, probability, rational
from occlp.instances.registry import instance

if TYPE_CHECKING:
    from occlp.model.mdp import MDP


@instance(
    "machine-repair",
    title="A machine that is new, worn or broken: run it or repair it",
    source="this library; the family is that of Derman, Finite State Markovian Decision Processes (1970)",
)
def machine_repair(*, overhaul: Number = 8, breakdown: Number = 10, discount: Number | None = 0.95) -> MDP:
    """Build a machine of three states, new at the start.

    Running pays 10 when new, 8 when worn and 0 when broken, and wears: new → worn with probability 1/5,
    worn → broken with 3/10. Repairing makes the machine new. The cost "wear" is the damage of a period of
    running: 1 when worn, 3 when broken; the best policy wears 0.328 a period, running until the machine
    breaks, and a bound of 0.25 makes it repair a worn machine now and then.

    Parameters
    ----------
    overhaul, breakdown : number
        Price of repairing a machine that still runs, and a broken one.
    discount : number

    References
    ----------
    This library's running example.
    """
    minor, major = -rational(overhaul, "overhaul"), -rational(breakdown, "breakdown")
    one, wearing, breaking = Fraction(1), Fraction(1, 5), Fraction(3, 10)
    rows = [
        Row("new", "run", {"new": 1 - wearing, "worn": wearing}, Fraction(10)),
        Row("new", "repair", {"new": one}, minor),
        Row("worn", "run", {"worn": 1 - breaking, "broken": breaking}, Fraction(8)),
        Row("worn", "repair", {"new": one}, minor),
        Row("broken", "run", {"broken": one}, Fraction(0)),
        Row("broken", "repair", {"new": one}, major),
    ]
    wear = [Fraction(damage) for damage in (0, 0, 1, 0, 3, 0)]
    return from_rows(rows, ["new", "worn", "broken"], discount=discount, initial={"new": 1}, costs={"wear": wear})


@instance(
    "hillier-lieberman-machine",
    title="Hillier and Lieberman's machine: do nothing, overhaul or replace",
    source="Hillier and Lieberman, Introduction to Operations Research, chapter on Markov decision processes",
    sense="minimize",
)
def hillier_lieberman_machine(*, discount: Number | None = 0.9) -> MDP:
    """Build the prototype example of Hillier and Lieberman.

    The question is ``sense="minimize"``: the rewards of the model are the expected costs of a week, as
    positive numbers, and the cost "cost" holds the same numbers.

    Parameters
    ----------
    discount : number

    References
    ----------
    Hillier and Lieberman, prototype example of the chapter: states 0 (as new) to 3 (inoperable). Long-run
    average 5000/3 a week, overhauling in state 2; at discount 0.9, V = (14949, 16262, 18636, ...).
    """
    as_new, minor, major, broken = "as new", "minor deterioration", "major deterioration", "inoperable"
    one, half, eighth, sixteenth = Fraction(1), Fraction(1, 2), Fraction(1, 8), Fraction(1, 16)
    rows = [
        Row(as_new, "nothing", {minor: 7 * eighth, major: sixteenth, broken: sixteenth}, Fraction(0)),
        Row(minor, "nothing", {minor: 6 * eighth, major: eighth, broken: eighth}, Fraction(1000)),
        Row(minor, "replace", {as_new: one}, Fraction(6000)),
        Row(major, "nothing", {major: half, broken: half}, Fraction(3000)),
        Row(major, "overhaul", {minor: one}, Fraction(4000)),
        Row(major, "replace", {as_new: one}, Fraction(6000)),
        Row(broken, "replace", {as_new: one}, Fraction(6000)),
    ]
    states, actions = [as_new, minor, major, broken], ["nothing", "overhaul", "replace"]
    costs = {"cost": [row.reward for row in rows]}
    return from_rows(rows, states, discount=discount, costs=costs, actions=actions)


#: Howard's automobile by age in quarters: price of buying (0 .. 39), trade-in value (1 .. 40), operating
#: expense of a quarter (0 .. 40), and survivors of a quarter in 1000 (0 .. 40).
_PRICE = (
    "2000 1840 1680 1560 1300 1220 1150 1080 900 840 780 730 600 560 520 480 440 420 400 380 "
    "360 345 330 315 300 290 280 265 250 240 230 220 210 200 190 180 170 160 150 140"
)
_TRADE_IN = (
    "1460 1340 1230 1050 980 910 840 710 650 600 550 480 430 390 360 330 310 290 270 255 "
    "240 225 210 200 190 180 170 160 150 145 140 135 130 120 115 110 105 95 87 80"
)
_EXPENSE = (
    "50 53 56 59 62 65 68 71 75 78 81 84 87 90 93 96 100 103 106 109 112 "
    "115 118 121 125 129 133 137 141 145 150 155 160 167 175 182 190 205 220 235 250"
)
_SURVIVORS = (
    "1000 999 998 997 996 994 991 988 985 983 980 975 970 965 960 955 950 945 940 935 930 "
    "925 919 910 900 890 880 865 850 820 790 760 730 660 590 510 430 300 200 0 0"
)


@instance(
    "howard-automobile",
    title="Howard's automobile: keep it another quarter, or trade it for one of any age",
    source="Howard, Dynamic Programming and Markov Processes (1960), Chapter 5",
    sense="minimize",
)
def howard_automobile(*, discount: Number | None = 0.97) -> MDP:
    """Build Howard's automobile replacement: 40 states, 41 actions.

    States are ages of 1 to 40 quarters; 40 stands for worn out as well. "keep" runs the car for a quarter,
    "buy j" trades it for one of j quarters and runs that. The question is ``sense="minimize"``: the rewards
    of the model are costs, as positive numbers, and so is the cost "cost".

    Parameters
    ----------
    discount : number
        Howard's question is the average cost.

    References
    ----------
    Howard (1960), automobile replacement. Average cost 150.946 a quarter: buy a car of 12 quarters at ages 1
    and 2 and from 26 on, keep it in between.
    """
    price, trade_in, expense, survivors = (
        [Fraction(word) for word in text.split()] for text in (_PRICE, _TRADE_IN, _EXPENSE, _SURVIVORS)
    )

    def quarter(age: int) -> dict[Any, Fraction]:
        alive = survivors[age] / 1000
        return {min(age + 1, 40): alive, 40: 1 - alive} if age < 39 else {40: Fraction(1)}

    rows = []
    for age in range(1, 41):
        rows.append(Row(age, "keep", quarter(age), expense[age]))
        for bought in range(40):
            cost = price[bought] - trade_in[age - 1] + expense[bought]
            rows.append(Row(age, f"buy {bought}", quarter(bought), cost))
    costs = {"cost": [row.reward for row in rows]}
    return from_rows(rows, list(range(1, 41)), discount=discount, costs=costs)


@instance(
    "inventory",
    title="Puterman's stochastic inventory: how much to order before demand is known",
    source="Puterman, Markov Decision Processes (1994), Section 3.2",
)
def inventory(
    *,
    capacity: int = 3,
    demand: Sequence[Number] | Number = ("1/4", "1/2", "1/4"),
    price: Number = 8,
    order_cost: Number = 4,
    unit_cost: Number = 2,
    holding_cost: Number = 1,
    discount: Number | None = 0.95,
) -> MDP:
    """Build the inventory of one product; the state is the stock, the action the quantity ordered.

    Orders arrive at once, demand beyond the stock is lost. Costs: "orders" is 1 when something is ordered,
    "stock" the units held after ordering, "lost" the expected demand that is lost.

    Parameters
    ----------
    capacity : int
        Largest stock (at least 1); at most ``capacity - stock`` units can be ordered.
    demand : sequence of probabilities of 0, 1, ... units, or number
        A number is the mean of a Poisson demand.
    price, order_cost, unit_cost, holding_cost : number
        Revenue of a unit sold; cost of an order, of each unit of it, and of holding a unit for a period.
    discount : number

    References
    ----------
    Puterman (1994), Section 3.2; with the defaults the model of 3.2.2, whose three-period solution is in
    Section 4.6.1.
    """
    top = count(capacity, "capacity", 1)
    chances, mean = _demand(demand, top)
    revenue, fixed = rational(price, "price"), rational(order_cost, "order_cost")
    unit, holding = rational(unit_cost, "unit_cost"), rational(holding_cost, "holding_cost")
    next_stock = [_after_demand(level, chances) for level in range(top + 1)]
    sold = [level - sum((left * p for left, p in next_stock[level].items()), Fraction(0)) for level in range(top + 1)]
    rows = []
    costs: dict[str, list[Fraction]] = {"orders": [], "stock": [], "lost": []}
    for stock in range(top + 1):
        for order in range(top + 1 - stock):
            level, placed = stock + order, Fraction(int(order > 0))
            reward = revenue * sold[level] - fixed * placed - unit * order - holding * level
            rows.append(Row(stock, order, next_stock[level], reward))
            costs["orders"].append(placed)
            costs["stock"].append(Fraction(level))
            costs["lost"].append(mean - sold[level])
    return from_rows(rows, top + 1, discount=discount, costs=costs)


def _demand(demand: Sequence[Number] | Number, top: int) -> tuple[list[Fraction], Fraction]:
    """Probabilities of demands 0, 1, ... (the last one stands for all above), and the mean demand."""
    if isinstance(demand, Sequence) and not isinstance(demand, str):
        chances = [probability(p, "demand") for p in demand]
        if sum(chances) != 1:
            raise InvalidModel(f"demand={demand!r} sums to {float(sum(chances)):.12g}, not 1.")
        return chances, sum((k * p for k, p in enumerate(chances)), Fraction(0))
    mean = rational(demand, "demand")
    if mean <= 0:
        raise InvalidModel(f"demand={demand!r} is not the mean of a Poisson demand. Give a positive number.")
    rate = float(mean)
    chances = [Fraction(math.exp(k * math.log(rate) - rate - math.lgamma(k + 1))) for k in range(top)]
    return [*chances, max(1 - sum(chances, Fraction(0)), Fraction(0))], mean


def _after_demand(level: int, chances: list[Fraction]) -> dict[int, Fraction]:
    """Distribution of the stock left of `level` units."""
    left: dict[int, Fraction] = {}
    for k, chance in enumerate(chances):
        stock = max(level - k, 0)
        left[stock] = left.get(stock, Fraction(0)) + chance
    return left


@instance(
    "queue-admission",
    title="A single server: admit a customer for a reward, or turn him away from a long queue",
    source="Naor, Econometrica 37 (1969); Puterman, Markov Decision Processes (1994), Section 3.7",
)
def queue_admission(
    *,
    capacity: int = 10,
    arrival: Number = 0.4,
    service: Number = 0.5,
    reward: Number = 5,
    waiting: Number = 0.2,
    discount: Number | None = 0.99,
) -> MDP:
    """Build the admission control of a queue, in uniformised time; the state is the number in the system.

    In a period at most one thing happens: an arrival, or a completed service. "admit" lets an arrival in,
    "reject" (the one action when full) turns it away. The queue is empty at the start. Costs: "queue" is the
    number in the system, "rejected" the expected arrivals turned away.

    Parameters
    ----------
    capacity : int
        Places in the system (at least 1).
    arrival, service : number
        Probabilities of an arrival, and of a completed service while the system is not empty; their sum is
        at most 1.
    reward, waiting : number
        Reward of an admitted customer, and cost of each customer in the system for a period.
    discount : number

    References
    ----------
    Naor, The regulation of queue size by levying tolls (1969). The optimum admits below a threshold.
    """
    places = count(capacity, "capacity", 1)
    come, serve = probability(arrival, "arrival"), probability(service, "service")
    if come + serve > 1:
        raise InvalidModel(f"arrival={arrival!r} and service={service!r} sum to more than 1.")
    prize, toll = rational(reward, "reward"), rational(waiting, "waiting")
    rows = []
    for number in range(places + 1):
        for action in ("admit", "reject") if number < places else ("reject",):
            admitted = come if action == "admit" else Fraction(0)
            done = serve if number else Fraction(0)
            successors = {number: 1 - admitted - done, number + 1: admitted, number - 1: done}
            rows.append(Row(number, action, successors, prize * admitted - toll * number))
    costs = {
        "queue": [Fraction(int(str(row.state))) for row in rows],
        "rejected": [come if row.action == "reject" else Fraction(0) for row in rows],
    }
    return from_rows(rows, places + 1, discount=discount, initial={0: 1}, costs=costs)


@instance(
    "tijms-maintenance",
    title="Tijms' maintenance of equipment: repair in time, or two days when it fails",
    source="Tijms, A First Course in Stochastic Models (2003), Example 6.1.1",
    sense="minimize",
)
def tijms_maintenance(*, discount: Number | None = None) -> MDP:
    """Build the maintenance problem of Tijms, inspection by inspection: a semi-Markov model.

    Every morning the working condition is 1 (as new) to 5 (failed). A repaired piece of equipment is as new the
    next morning, after a failure only the morning after that: the cost "days" holds how long a decision lasts.
    The question is ``sense="minimize"``: rewards are costs of repair, as positive numbers.

    Parameters
    ----------
    discount : number
        Of a decision; left out, because decisions take different times: see `occlp.semi_markov`.

    References
    ----------
    Tijms (2003), Example 6.1.1 and section 7.1: the average cost is 0.4338 a day, repairing in condition 4.
    """
    rows = [
        Row(1, "run", {1: Fraction(9, 10), 2: Fraction(1, 10)}, Fraction(0)),
        Row(2, "run", {2: Fraction(4, 5), 3: Fraction(1, 10), 4: Fraction(1, 20), 5: Fraction(1, 20)}, Fraction(0)),
        Row(2, "repair", {1: Fraction(1)}, Fraction(7)),
        Row(3, "run", {3: Fraction(7, 10), 4: Fraction(1, 10), 5: Fraction(1, 5)}, Fraction(0)),
        Row(3, "repair", {1: Fraction(1)}, Fraction(7)),
        Row(4, "run", {4: Fraction(1, 2), 5: Fraction(1, 2)}, Fraction(0)),
        Row(4, "repair", {1: Fraction(1)}, Fraction(5)),
        Row(5, "repair", {1: Fraction(1)}, Fraction(10)),
    ]
    days = [Fraction(2 if row.state == 5 else 1) for row in rows]
    return from_rows(rows, [1, 2, 3, 4, 5], discount=discount, costs={"days": days})
