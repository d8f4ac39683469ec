"""Measure Homeroom and its peers: load, scenarios, tables. Compare figures only within one run."""
