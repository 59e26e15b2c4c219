"""A small grokked run, shipped with the package: `interp.open_run(interp.reference_path())`."""
