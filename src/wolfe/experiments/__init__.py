"""Experiments: attacks over a data set, target selection, and the store of finished work."""
