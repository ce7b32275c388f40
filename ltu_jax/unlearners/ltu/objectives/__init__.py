"""What the forgetting branch of LTU matches."""
