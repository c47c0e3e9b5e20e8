"""LLaVA-NeXT-Mistral checkpoints of random weights, in the form of the hub: for speed, never for answers."""
