"""What a run leaves to read: tables, pictures, the page and the model's card.

It never makes or changes a result.
"""
