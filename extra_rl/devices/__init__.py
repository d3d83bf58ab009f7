"""Which accelerators a process may use, and the locks that keep others off them."""
