"""The model: one frozen form of a finite Markov decision process, and every way to write one down."""

from occlp.model.exact import ExactNumbers as ExactNumbers
from occlp.model.mdp import MDP as MDP
from occlp.model.pairs import Pairs as Pairs
