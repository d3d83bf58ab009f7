"""The command `extra`: one file a command. It may import `stages` and `extra_rl`; nothing imports it."""
