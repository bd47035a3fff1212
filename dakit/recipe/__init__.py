"""From YAML to checked plans: reading with lines, checking, one plan per row of the table, the schema for editors.

It never opens data, builds a network or looks at what was made.
"""
