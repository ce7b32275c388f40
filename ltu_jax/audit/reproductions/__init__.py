"""Numbers of other tools, reproduced for comparison; not used by the audit."""
