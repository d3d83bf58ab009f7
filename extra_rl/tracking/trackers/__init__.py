"""One file a tracker, with a function `send` (extra_rl.tracking.send.Send); each imports its library there."""
