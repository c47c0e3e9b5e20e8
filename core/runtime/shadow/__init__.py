"""A second backend beside the one that serves: some of what that computes is computed again, and compared.

`runtime.shadow.wrapper` sees every step and copies what is to be compared, `runtime.shadow.comparing` has it compared
off the hot path, `runtime.shadow.judge` computes it again, in a process of its own (`runtime.shadow.apart`).
"""
