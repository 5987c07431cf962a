"""Readers of files that may come from strangers: sizes are checked before memory is taken, and nothing is executed.

Each of them raises `ValueError` (or `FileNotFoundError`) with one line that names the file, whatever is wrong with it.
"""
