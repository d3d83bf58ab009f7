"""The live view of a run (`extra watch`): what has finished, which jobs are running, and what needs attention."""
