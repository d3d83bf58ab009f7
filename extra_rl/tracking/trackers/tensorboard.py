"""TensorBoard: one event file for each arm and seed, without TensorFlow or torch.

`tensorboard --logdir results/NAME/tracking/tensorboard`
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from extra_rl.tracking.record import Record, TrackedRun, markdown_table


def send(run: TrackedRun, records: Sequence[Record], before: int, state: dict[str, Any]) -> dict[str, Any]:
    """Append the records; what a killed process wrote after the size in `state` is cut off first."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder = run.folder / run.cell
    folder.mkdir(parents=True, exist_ok=True)
    name = state.get("file") or f"events.out.tfevents.{int(records[0].time)}.extra"
    size = state.get("size", 0)
    with (folder / name).open("ab") as handle:
        handle.truncate(size)
        writer = RecordWriter(handle)
        events = [_event(record) for record in records]
        if not size:
            about = f"```json\n{json.dumps(run.config, indent=1)}\n```"
            first = Event(wall_time=records[0].time, file_version="brain.Event:2")
            config = Event(wall_time=records[0].time, step=records[0].step, summary=_summary([], [("config", about)]))
            events = [first, config, *events]
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()
        return {"file": name, "size": os.fstat(handle.fileno()).st_size}


def _event(record: Record) -> Any:
    """All numbers of a record, and its table, as one event: a reader sees a whole step or none."""
    from tensorboard.compat.proto.event_pb2 import Event

    texts = [("rollouts", markdown_table(record.rollouts))] if record.rollouts else []
    return Event(wall_time=record.time, step=record.step, summary=_summary(record.metrics.items(), texts))


def _summary(numbers: Iterable[tuple[str, float]], texts: Iterable[tuple[str, str]]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers]
    for name, text in texts:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
        metadata = create_summary_metadata(display_name=name, description="")
        values.append(Summary.Value(tag=name, metadata=metadata, tensor=tensor))
    return Summary(value=values)
