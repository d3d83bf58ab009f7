"""The policy of the mathematics verifier: each convention on which verifiers differ, as a switch with its default."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FALLBACKS = ("minerva", "hashes", "phrase", "bare", "conclusion", "statement")


class Policy(BaseModel):
    """How a response is read and when two answers are the same. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fallbacks: tuple[str, ...] = Field(
        FALLBACKS, description="Where to look for an answer when no box is found, of: " + ", ".join(FALLBACKS)
    )
    join_boxes: bool = Field(True, description="A list may be spread over neighbouring boxes.")
    optional_units: bool = Field(True, description="A unit may be added or dropped (never exchanged for another).")
    percent_as_decimal: bool = Field(True, description="50% may be given as 0.5 (or 1/2), and as 50.")
    degrees_as_radians: bool = Field(True, description="An angle may be given in degrees or radians, if it says which.")
    ordered_lists: bool = Field(False, description="The order of a list without brackets matters.")
    decimal_comma: bool = Field(False, description="2,74 is the number 2.74 and not a list.")
    long_decimal_digits: Annotated[int, Field(ge=0)] = Field(
        15,
        description="A decimal of at least this many digits, all of them correct, equals the irrational; 0: never.",
    )
    relative_tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Allowed error of a numeric answer relative to the reference answer (Minerva: 0.01 is common)."
    )
    absolute_tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Allowed absolute error."
    )
    max_answer_chars: Annotated[int, Field(ge=1)] = Field(
        3000, description="A longer answer is not parsed: it is correct only if it equals the reference answer as text."
    )

    def model_post_init(self, _: object) -> None:
        unknown = set(self.fallbacks) - set(FALLBACKS)
        if unknown:
            raise ValueError(f"unknown fallbacks {sorted(unknown)}; known: {', '.join(FALLBACKS)}")


DEFAULT = Policy()
