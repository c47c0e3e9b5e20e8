"""The conformance kit: what core expects of every backend, as checks that its author can run.

`runtime conformance --backend X` and `pytest --pyargs runtime.conformance --backend X` run the same list on the bundled
demo model. Imports nothing, because pytest asks this package for a plugin at every start.
"""
