"""Running a recipe: opening the roles of the data, keys, what must be made, the order, the table, and who is told.

It never computes what a stage computes, and opens test labels only through sealed evaluation.
"""
