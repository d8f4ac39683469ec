"""Booked lessons with a whiteboard: the `lesson` contract as rows, bodies, views and frames."""
