"""The analyses: one file, one question. Discovered by `interp.analysis`; CONTRIBUTING shows how to add one."""
