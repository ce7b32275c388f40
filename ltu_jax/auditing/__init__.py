"""`ltu audit`: what was found of a run's networks and of its pools, and what it is worth."""
