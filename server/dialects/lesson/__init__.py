"""Booked lessons in a room with a board: the `lesson` contract."""
