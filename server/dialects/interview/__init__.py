"""Coding interviews, joined by link: the `interview` contract as rows, bodies, views and frames."""
