"""Uses of the results: comparisons, tables in the pages, plots."""
