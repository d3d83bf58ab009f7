"""Generated tasks, one file each, with prompts and demonstrations."""
