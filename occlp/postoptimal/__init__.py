"""What can be said once the optimum is known: sensitivity, and the choice among optimal policies."""
