"""Image sets and what is done with them: reading, splits, batches, augmentation on the device, features.

It never trains, and knows no recipe.
"""
