"""What attacks beyond those of the report find."""
