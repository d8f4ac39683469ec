"""Every setting, its bounds, and where its value came from."""
