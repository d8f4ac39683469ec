"""Audio lessons over SSE: the `seeds` contract."""
