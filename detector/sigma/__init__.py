"""Sigma rules: load, compile and match them. pySigma parses; the evaluation is ours."""
