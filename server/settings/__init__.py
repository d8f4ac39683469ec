"""Every setting, its bounds, and the sources that its value can come from."""
