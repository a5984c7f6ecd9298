"""Every metric: name, type, help. Labels come from closed sets, never from what a client can choose."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECORDS: Final = Counter("detector_records", "Records read from the source.")
EVENTS: Final = Counter("detector_events", "Audit events decoded.")
DEAD_LETTERS: Final = Counter("detector_dead_letters", "Records and alerts that could not be used.", ["reason"])
MATCHES: Final = Counter("detector_matches", "Rules that fired on an event.")
LATE_MATCHES: Final = Counter("detector_late_matches", "Matches that came after their alert was complete.")
ALERTS: Final = Counter("detector_alerts", "Versions of alerts that were written.", ["version"])
FORGOTTEN: Final = Counter(
    "detector_forgotten", "What correlations and first-seen conditions forgot to stay within their bounds.", ["what"]
)
HELD_SECONDS: Final = Counter("detector_held_seconds", "Time spent waiting for a sink.", unit="seconds")
OPEN_ALERTS: Final = Gauge("detector_open_alerts", "Alerts whose fold window is open.")
DEGRADED: Final = Gauge("detector_degraded", "1 while the behaviour model that was asked for cannot be used.")
EVENT_TIME: Final = Gauge(
    "detector_event_time_seconds",
    "Event time that all streams have reached, Unix time; when it stands still, no event comes.",
)
BATCH_SECONDS: Final = Histogram("detector_batch_seconds", "Time from a batch read to its alerts stored.")
SILENCED: Final = Counter("detector_silenced_matches", "Matches and behaviour alerts that an exception covered.")
EXCEPTIONS: Final = Gauge("detector_exceptions", "Exceptions that hold, end within 14 days or have ended.", ["state"])
RELOADS: Final = Counter("detector_reloads", "Times that rules and exceptions were loaded anew.", ["result"])
RELOAD_FAILED: Final = Gauge("detector_reload_failed", "1 while the files of rules or exceptions cannot be used.")
