"""Live sessions of a course, with recordings: the `live` contract."""
