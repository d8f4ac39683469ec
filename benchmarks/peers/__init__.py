"""The servers that Homeroom is measured against: what products use, as bare as it gets."""
