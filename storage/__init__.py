"""Storage: the only package that knows SQL. The driver's errors stop at `pool`; callers see those of `errors`."""
