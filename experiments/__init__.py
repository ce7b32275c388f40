"""Scripts over the library that make the tables and figures of the documentation."""
