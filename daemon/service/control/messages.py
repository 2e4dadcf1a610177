"""The answers that cross the control socket, shared by the service, the commands and their texts.

Names of fields are those of `--json`. Only `name` is optional: it is there where it was asked for. `calls` says which
answer belongs to which request.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from daemon.rules.codes import Code
from daemon.rules.errors import Kind
from daemon.rules.readiness import Readiness

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Message(BaseModel):
    """Frozen, with exact types and no unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", from_attributes=True)


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────


class FileCounts(Message):
    """Present files. `left` are neither read nor held, `parked` those of them that wait for their next try."""

    left: Count
    left_bytes: Count
    parked: Count
    read: Count
    ignored: Count
    held: Count
    total: Count


class SeriesCounts(Message):
    """Series by the state of their newest revision; `deliveries` counts series of which something is delivered."""

    to_look_at: Count
    gathering: Count
    converting: Count
    uploading: Count
    delivered: Count
    ignored: Count
    held: Count
    deliveries: Count

    @property
    def open(self) -> int:
        """How many are under way."""
        return self.gathering + self.converting + self.uploading


class HeldCount(Message):
    """What one reason code holds. `remedy` is one of `remedies` different ones."""

    code: str
    files: Count
    series: Count
    since_epoch_s: float
    remedy: str
    remedies: Count


class CrawlState(Message):
    """What of the source is still to be listed or asked; `last_epoch_s`: when the last crawl began."""

    listings_pending: Count
    questions_pending: Count
    rechecks_pending: Count
    last_epoch_s: float | None

    @property
    def pending(self) -> bool:
        return bool(self.listings_pending or self.questions_pending or self.rechecks_pending)


class Work(Message):
    """What the ledger alone knows of the work. `rebuild`: why the ledger may be older than the output, or None."""

    files: FileCounts
    series: SeriesCounts
    held: list[HeldCount]
    rebuild: str | None
    crawl: CrawlState


class Rates(Message):
    """What was read and delivered in the last `window_s` seconds; None: too little to tell."""

    window_s: Seconds
    files_per_s: Seconds | None
    bytes_per_s: Seconds | None
    series_delivered: Count


class SuspensionState(Message):
    """A suspended scope. `next_probe_s`: how long until it is tried again."""

    scope: str
    code: str
    what: str
    remedy: str
    since_epoch_s: float
    next_probe_s: Seconds


class RunningSteps(Message):
    download: Count
    convert: Count
    deliver: Count


class PaceState(Message):
    """See `PacerState` of outside/drive."""

    units_per_minute: float
    limit_units_per_minute: float | None
    writes_per_second: float
    paused_s: float
    writes_paused_s: float
    sent: Count
    refused: Count
    units_by_kind: dict[str, Count]


class BudgetState(Message):
    """What was spent of the day's quota; see `BudgetState` of outside/drive."""

    units: Count
    units_limit: Count
    units_forecast: Count
    size_bytes: Count
    bytes_limit: Count
    bytes_forecast: Count
    ends_epoch_s: float | None
    next_day_epoch_s: float


class DriveUse(Message):
    units_spent: Count
    requests: dict[str, Count]
    pace: PaceState
    budget: BudgetState


class SpoolUse(Message):
    used_bytes: Count
    max_bytes: Count


class StatusAnswer(Work):
    """How the service stands. Of a stopped one only `Work` is known.

    Args:
        starting: it does not answer yet, but holds the lock.
        suspended: scopes that wait for Drive, the disk or a person; `paused`: a person paused everything.
        time_left_s: 0: nothing is left; None: unknown.
        feed_age_s: since the feed was last read to its end; None: not yet.
    """

    version: str
    running: bool
    starting: bool
    pid: Count | None
    uptime_s: Seconds | None
    paused: bool
    suspended: list[SuspensionState]
    rates: Rates
    time_left_s: Seconds | None
    running_steps: RunningSteps
    drive: DriveUse | None
    feed_age_s: float | None
    spool: SpoolUse | None


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class FileItem(Message):
    """`rank` orders files by first sight; `link` is empty where there is none (a local Drive without `names`)."""

    rank: Count
    file_id: str
    link: str
    state: str
    whereabouts: str
    reason: str
    held_code: str
    remedy: str
    held_since_epoch_s: float | None
    not_before_epoch_s: float | None
    size_bytes: Count
    series_instance_uids: list[str]
    name: str | None = None


class SeriesItem(Message):
    """A series by its newest revision; `link` and `delivery_folder_id` are empty until something is delivered."""

    rank: Count
    series_instance_uid: str
    study_instance_uid: str
    revision: Count
    state: str
    reason: str
    held_code: str
    remedy: str
    held_since_epoch_s: float | None
    not_before_epoch_s: float | None
    instances: Count
    delivered_revision: Count
    delivery_folder_id: str
    link: str
    name: str | None = None


class FilesPage(Message):
    rows: list[FileItem]
    more: bool


class SeriesPage(Message):
    rows: list[SeriesItem]
    more: bool


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Hold(Message):
    code: str
    remedy: str
    since_epoch_s: float


class EventLine(Message):
    """One line of the history; `revision` is 0 for a file."""

    at_epoch_s: float
    revision: Count
    event: str
    detail: str


class VolumeShape(Message):
    role: str
    shape: list[Count]


class Delivery(Message):
    """What lies in the output. `results` counts its files; the rest is its verdict."""

    folder_id: str
    link: str
    revision: Count
    made_at: str
    results: Count
    usable: str
    codes: list[str]
    sentences: list[str]
    volumes: list[VolumeShape]


class SeriesDetail(Message):
    """A series by its newest revision.

    Args:
        state: None: no revision has begun.
        readiness: settling's own answer while the newest revision gathers.
        rebuild_requested: a person asked for a rebuild that has not begun.
        waits_until_epoch_s: when the next try is due; None: it does not wait.
    """

    series_instance_uid: str
    study_instance_uid: str
    instances: Count
    present: Count
    state: str | None
    revision: Count
    reason: str
    tries: Count
    held: Hold | None
    waits_until_epoch_s: float | None
    readiness: Readiness | None
    rebuild_requested: bool
    delivery: Delivery | None
    history: list[EventLine]


class WhyFile(Message):
    """A file and the series that its newest content belongs to. `before_it`: files that are read before it."""

    kind: Literal["file"]
    file_id: str
    link: str
    size_bytes: Count
    state: str
    whereabouts: str
    reason: str
    tries: Count
    waits_until_epoch_s: float | None
    held: Hold | None
    before_it: Count
    history: list[EventLine]
    series: list[SeriesDetail]


class WhySeries(Message):
    """`more` series of the study are not shown."""

    kind: Literal["series"]
    series: list[SeriesDetail]
    more: Count


class FolderSeries(Message):
    series_instance_uid: str
    revision: Count
    state: str
    held_code: str
    link: str


class WhyFolder(Message):
    """A folder of the source: how many files are in each state, and the series that have an instance in it."""

    kind: Literal["folder"]
    folder_id: str
    link: str
    files: dict[str, Count]
    series: list[FolderSeries]
    more: Count


class WhyUnknown(Message):
    """Something on Drive that the ledger does not know."""

    kind: Literal["unknown"]
    file_id: str
    link: str
    what: Literal["file", "folder", "shortcut"]
    trashed: bool
    source_known: bool


class WhyAnswer(Message):
    running: bool
    about: Annotated[WhyFile | WhySeries | WhyFolder | WhyUnknown, Field(discriminator="kind")]


# ── check and actions ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class CheckResult:
    """One thing that was checked. `area` decides the exit code of a problem."""

    name: str
    level: Literal["ok", "note", "warning", "problem"]
    what: str
    remedy: str = ""
    area: Literal["credentials", "drive", "machine"] = "machine"


class CheckAnswer(Message):
    findings: list[CheckResult]


class RetryAnswer(Message):
    """How many files and series are tried again; `running`: now, else when the service starts."""

    files: Count
    series: Count
    running: bool


class ProcessAnswer(Message):
    series_instance_uids: list[str]
    running: bool


class PauseAnswer(Message):
    paused: bool
    changed: bool


class CrawlAnswer(Message):
    listings_pending: Count


class PingAnswer(Message):
    version: str


class ErrorText(Message):
    """Why a request was not answered."""

    kind: Kind
    code: Code
    what: str
    remedy: str


class ErrorAnswer(Message):
    error: ErrorText
