"""The fault suite: what the engine promises, under the faults that a night in production brings.

Not collected by pytest. `python -m tests.chaos --help`, or `make chaos`.
"""
