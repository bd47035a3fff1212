"""What lies on disk: the store of stage results under their keys, what each was made with, and reading a run again.

It never makes a result, and knows a stage only by what it put there.
"""
