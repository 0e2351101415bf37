"""Figures one can believe: metrics with intervals, beside floors on the same rows, and a report to read.

`from xrec_evaluation.evaluate import evaluate_predictions` is the way in; the command is `xrec evaluate`.
"""
