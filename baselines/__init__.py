"""The models that XRec's paper compares with, one paper a file, on the same rows and by the same trainer and evaluation.

`xrec train DATA --model att2seq` (or `nrt`, `peter`, `pepler`) is the way in; `explainer.BaselineExplainer` writes the texts.
"""
