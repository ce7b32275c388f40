"""What the experiments share: settings, jobs, provenance and tables."""
