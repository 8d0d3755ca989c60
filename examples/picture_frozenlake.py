"""The picture of the front page: where two policies spend their time on FrozenLake, and how methods converge.

Needs gymnasium. Writes ``frozenlake.png`` here, or to the path given as an argument.
"""

import sys

from matplotlib.figure import Figure

import occlp as oc

LAKE = "SFFFFHFHFFFHHFFG"
ARROWS = {"left": (-0.42, 0), "down": (0, 0.42), "right": (0.42, 0), "up": (0, -0.42)}
INK = "#1c2733"

mdp = oc.interop.from_gymnasium("FrozenLake-v1", discount=0.99)
methods = {
    "value iteration": oc.ValueIteration(),
    "policy gradient": oc.PolicyGradient(),
    "natural policy gradient": oc.NaturalPolicyGradient(),
    "policy iteration": oc.PolicyIteration(warm_up=0),
}
table = oc.compare(mdp, methods)
early = oc.solve(mdp, oc.PolicyGradient(), limit=oc.Limit(iterations=3))


def draw_lake(axes, result, title):
    """Shade the cells by occupancy, and draw an arrow for each action, as long as it is probable."""
    mass = dict(zip(mdp.states, result.state_occupancy, strict=True))
    shades = [[(mass.get(4 * row + column, 0.0) / 0.25) ** 0.5 for column in range(4)] for row in range(4)]
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1)
    for cell, mark in enumerate(LAKE):
        row, column = divmod(cell, 4)
        if mark in "HG":
            box = {"boxstyle": "round", "facecolor": "#5d6b7a" if mark == "H" else "#009e73", "linewidth": 0}
            axes.text(column, row, {"H": "hole", "G": "goal"}[mark], ha="center", va="center", color="white", bbox=box)
            continue
        for action, probability in result.policy[cell].items():
            x, y = (probability * step for step in ARROWS[action])
            if probability > 0.02:
                axes.arrow(column, row, x, y, color="#d55e00", width=0.025, head_width=0.11, length_includes_head=True)
        axes.text(column - 0.45, row - 0.42, f"{mass[cell]:.3f}", ha="left", va="top", fontsize=7, color=INK)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10, color=INK)


figure = Figure(figsize=(12, 4), layout="constrained")
left, middle, right = figure.subplots(1, 3)
draw_lake(
    left, early, f"policy gradient, iteration 3: return {early.expected_return:.4f}\ncertified gap {early.gap:.1e}"
)
best = table["policy iteration"]
draw_lake(middle, best, f"policy iteration: return {best.expected_return:.4f}\ncertified gap {best.gap:.1e}")
for (name, colour), line in zip(
    {"value iteration": "#009e73", "policy gradient": "#d55e00", "natural policy gradient": "#cc79a7",
     "policy iteration": "#0072b2"}.items(), ("-", "--", "-.", ":"), strict=True,
):  # fmt: skip
    history = table[name].history
    right.semilogy(history["iteration"], history["gap"], line, color=colour, marker=".", label=name)
right.set(xscale="log", xlabel="iteration", title="certified gap of the objective")
right.grid(color="#dfe4ea")
right.legend(frameon=False, fontsize=9)
path = sys.argv[1] if len(sys.argv) > 1 else "frozenlake.png"
figure.savefig(path, dpi=110)
print("written:", path)
