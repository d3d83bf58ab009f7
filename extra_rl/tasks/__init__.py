"""Problem sources: generated tasks (one small file each) and mathematics from local files."""
