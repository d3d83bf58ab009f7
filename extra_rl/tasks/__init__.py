"""Generated tasks, one file each, their prompts and their demonstrations."""
