"""What a configuration will cost before it runs: counts, work, memory, disk. Pure functions, no torch, no network."""
