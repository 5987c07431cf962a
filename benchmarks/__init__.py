"""What the attacks cost and how near they come: one question a module, one table and one plot an answer.

`python -m benchmarks` answers them; see `benchmarks.settings` for what can be chosen.
"""
