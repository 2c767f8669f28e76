"""The standing proofs: one module a method, with its claim and how both sides are measured.

``tokenspace reproduce NAME`` runs them; ``results/`` holds what was recorded.
"""
