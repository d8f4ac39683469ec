"""Tutoring with video rooms: the `tutorium` contract as rows, bodies and views."""
