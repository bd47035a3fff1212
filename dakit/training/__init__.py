"""What every training stage stands on: the fit loop, its checkpoints, a kept teacher, and the state around it.

It knows no loss, no network and no recipe.
"""
