"""Storage: the only package that knows SQL. Callers get the errors of `errors`, never those of the driver."""
