"""A brute-force model of ``nudged``: every order of every step within bounds, in plain Python.

Read `state` for what is remembered, `protocol` for what may happen next, `nested` for values in
values, `bounds` for the guards and how much may go on at once, `naming` for how the states are made
few, `scenarios` for what is explored. ``python -m tests.model --traces`` runs it.
"""
