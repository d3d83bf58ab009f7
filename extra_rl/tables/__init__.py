"""Tables: what every Parquet file of the pipeline holds (`contracts`), how it is read and written (`files`), and the
joined view of an iteration (`scan`)."""

from extra_rl.tables.files import read_table, write_table
from extra_rl.tables.scan import scan_iteration, scan_run

__all__ = ["read_table", "scan_iteration", "scan_run", "write_table"]
