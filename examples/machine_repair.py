"""A model of one's own: states and actions with names, a cost beside the reward, and what the answer says.

A machine is new, worn or broken. Running it earns money and wears it; repairing it costs money and a period.
"""

import occlp as oc

STATES = ["new", "worn", "broken"]
ACTIONS = ["run", "repair"]

TRANSITIONS = [  # [S, A, S']
    [[0.8, 0.2, 0.0], [1.0, 0.0, 0.0]],  # new
    [[0.0, 0.7, 0.3], [1.0, 0.0, 0.0]],  # worn
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],  # broken
]
EARNINGS = [[10, -8], [8, -8], [0, -10]]  # [S, A]
WEAR = [[0, 0], [1, 0], [3, 0]]  # [S, A]

mdp = oc.MDP.from_arrays(
    TRANSITIONS,
    EARNINGS,
    discount=0.95,
    initial="new",
    costs={"wear": WEAR},
    states=STATES,
    actions=ACTIONS,
)
result = oc.solve(mdp)

print("policy:", result.policy.actions)
print(f"a machine that is new is worth {result.expected_return:.4f}, or {result.objective:.4f} a period")
print(f"certified within {result.gap:.0e}; wear {result.expected['wear']:.4f} a period")

print("\nshare of (discounted) time, d(s, a):")
for state, row in zip(STATES, result.occupancy, strict=True):
    print(f"  {state:7}", "  ".join(f"{action} {share:.4f}" for action, share in zip(ACTIONS, row, strict=True)))

print("\nwhat deciding otherwise once would cost, Q − V:")
for state, row in zip(STATES, result.advantages, strict=True):
    print(f"  {state:7}", "  ".join(f"{action} {loss:8.3f}" for action, loss in zip(ACTIONS, row, strict=True)))
