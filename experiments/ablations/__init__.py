"""One part or option of LTU varied, all else as it is."""
