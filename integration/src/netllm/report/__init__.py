"""What `test` found: results, comparisons with intervals, tables, plots."""
