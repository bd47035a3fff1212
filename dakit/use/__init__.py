"""Trained networks at work: predictions and translations of new images, and files for other programs.

It never trains, and never reads a test label.
"""
