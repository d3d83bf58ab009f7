"""Parquet tables: contracts of their content (`contracts`), reading and writing (`files`), joined views (`scan`)."""

from extra_rl.tables.files import read_table, write_table
from extra_rl.tables.scan import scan_iteration, scan_run

__all__ = ["read_table", "scan_iteration", "scan_run", "write_table"]
