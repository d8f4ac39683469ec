"""Live sessions of courses, with recordings: the `live` contract as rows, bodies and views."""
