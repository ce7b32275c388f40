"""Time, memory and communication."""
