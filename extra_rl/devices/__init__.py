"""The accelerators that a process takes, and the locks that keep other processes off them."""
