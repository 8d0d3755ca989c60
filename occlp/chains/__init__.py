"""The Markov chain of one policy: its moves, and every way to solve with them."""
