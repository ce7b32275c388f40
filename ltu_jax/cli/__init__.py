"""The `ltu` command: arguments in, tables and exit codes out."""
