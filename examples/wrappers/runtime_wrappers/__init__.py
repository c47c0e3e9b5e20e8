"""Three wrappers: `timing` measures, `faults` fails on purpose, `shadow` compares with the reference."""
