"""The comparison of a backend with the oracle, stage by stage: the same batches, the oracle's tokens.

A reference run of the oracle is written to disk; the backend is measured against it, and so is the oracle once more in
the backend's own dtype. What the oracle loses that way is rounding noise, and a backend may lose a few times as much.
"""
