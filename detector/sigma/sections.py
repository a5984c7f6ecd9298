"""Sections: what stands under `detector:` in a rule file, which Sigma allows beside its own keys."""

from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from detector.match import MESSAGE_PLACEHOLDERS
from detector.sigma.link import seconds_of


class Step(BaseModel):
    """One event of several: what differs, and when it comes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    after: str | None = None
    """How long after the one before (`30s`); at the same time if left out."""
    repeat: int = Field(default=1, ge=1, le=1000)
    """How often it comes, `{n}` in any text counting from 1."""

    @property
    def seconds(self) -> int:
        """How long after the one before."""
        return 0 if self.after is None else seconds_of(self.after, "after")

    @model_validator(mode="after")
    def _comes_after_a_time_span(self) -> "Step":
        _ = self.seconds
        return self


class Case(BaseModel):
    """Events that a rule must or must not match; each states only what differs from a base event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    match: bool | Literal["degraded"]
    event: dict[str, Any] = {}
    events: tuple[Step, ...] = ()
    """Several, in order, of a rule that remembers; each is laid over `event`."""

    @model_validator(mode="after")
    def _holds_an_event(self) -> "Case":
        if not self.model_fields_set & {"event", "events"}:
            raise ValueError("a case needs an event, or events")
        return self


class FirstSeenSection(BaseModel):
    """Matches only what the group was not seen with before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[str, ...] = Field(min_length=1)
    group_by: tuple[str, ...] = ()
    memory: str = "30d"
    warm_up: str = "3d"
    new_groups: bool = False
    """A group that is new itself counts too, once the rule itself has been at work for the warm-up."""


class DormantSection(BaseModel):
    """Matches only after the group was silent for so long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str
    group_by: tuple[str, ...] = ()


class Extension(BaseModel):
    """The section `detector:` of a rule file, which Sigma allows beside its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covers: tuple[str, ...] = ()
    """Ids of the detection ideas in `sigma/ideas.yml` that the rule covers."""
    group_by: tuple[str, ...] = ()
    fold_seconds: int = Field(default=3600, ge=60, le=7 * 86_400)
    message: str = ""
    triage: str = ""
    """What to do first, for people; without one the rule's tactic says it, see notes.py."""
    across_identities: bool = False
    """A rule that remembers looks at the requests of all identities together, not of each."""
    first_seen: FirstSeenSection | None = None
    dormant: DormantSection | None = None
    tests: tuple[Case, ...] = ()

    @model_validator(mode="after")
    def _remembers_one_thing(self) -> "Extension":
        if self.first_seen and self.dormant:
            raise ValueError("a rule is either first_seen or dormant")
        return self

    @field_validator("message")
    @classmethod
    def _names_known_placeholders(cls, message: str) -> str:
        for _, name, spec, conversion in Formatter().parse(message):
            if name is not None and (name not in MESSAGE_PLACEHOLDERS or spec or conversion):
                raise ValueError(f"{{{name}}} is no placeholder; known are {', '.join(sorted(MESSAGE_PLACEHOLDERS))}")
        return message
