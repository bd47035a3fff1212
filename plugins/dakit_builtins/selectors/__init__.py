"""The paper's rule, its exact form, and controls."""
