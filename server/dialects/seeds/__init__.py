"""Audio lessons over SSE: the `seeds` contract as rows, bodies, views and frames."""
