"""The per-example audit as sentences, tables, figures and HTML."""
