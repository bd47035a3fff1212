"""Numbers from predictions: metrics with intervals, verdicts between rows, and signs that a training went wrong.

It never reads an image or a network; its intervals and verdicts are calibrated by ``benchmarks/calibration.py``.
"""
