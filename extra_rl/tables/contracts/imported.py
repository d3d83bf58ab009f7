"""Contract for what the file of another program says about a rollout, besides its tokens."""

from __future__ import annotations

import dataframely as dy

from extra_rl.tables import column


class ImportedRows(dy.Schema):
    """`extra import`: one row per rollout, with its place and the numbers that its file gives it."""

    rollout_id = column.key("rollout")
    place = column.text("file and row")
    step = dy.Int64(nullable=True, metadata={"about": "the file's step; null: it names none"})
    reward = column.number("the file's reward; null: none", nullable=True)
    advantage = column.number("the file's advantage; null: none", nullable=True)
    further = column.text("JSON of the row's other numbers, by column")
