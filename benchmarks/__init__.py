"""Homeroom beside its peers: load, scenarios, tables. Figures of one run compare; figures of two runs do not."""
