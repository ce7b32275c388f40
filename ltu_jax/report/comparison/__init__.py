"""A comparison of methods as tables and figures."""
