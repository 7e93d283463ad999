"""What a deployment is: configuration, state, keys, plans, budget, clocks."""
