"""What helps before a run: a first recipe, a first plugin, what is odd about the data, how long it will take.

It never changes a result, and nothing else stands on it.
"""
