"""Tutoring in rooms: the `tutorium` contract."""
