"""Coding interviews: the `interview` contract."""
