"""The toolkit for accelerators with static shapes: a model, its weights, cache and graphs, in plain torch."""
