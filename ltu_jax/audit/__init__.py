"""Scores in, numbers out: NumPy, SciPy and scikit-learn, and no model anywhere."""
