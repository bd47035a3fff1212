"""From YAML to checked plans: reading with lines, checking, one plan per row of the table, the schema for editors.

It never opens data, builds a network or looks at what was made.

A *row* is a line of the table: the method's, or that of a *variant*, its entry in YAML. A *stage* is a verb with its
parameters and inputs. A *setting* is one ``key: value`` that a variant, a profile or ``--set`` lays over the document.

The way through: ``yaml_lines`` reads, ``base`` lays a recipe over the one that it builds on, ``document`` holds the
result and what is laid over it, ``sections`` says what each section may hold, ``rows`` and ``references`` check one
row, ``load`` is the door, ``plans`` is what comes out.
"""
