"""What steps, pools and whole deletions cost, as ratios measured side by side in one process."""
