"""What Drive said of a folder a moment ago spares requests, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from daemon.outside.clock import Clock
from daemon.outside.drive.wire import Request
from daemon.rules.errors import Refused, Transient
from daemon.rules.lifecycle import SeriesState
from daemon.rules.outcomes import Abandoned, Delivered
from daemon.steps.deliver import folders
from daemon.steps.deliver.deliver import STAGED_S, deliver
from daemon.steps.presence import LASTS_S, PresenceCache

from .conftest import FIRST, NAME, DeliveryWorld

RESULTS = len(FIRST) + 1


class LaterClock(Clock):
    """The clock of the process, ahead by as much as a test says."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


@pytest.fixture
def before_the_move(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], object]], None]:
    """Let people do something in the very moment before the daemon's first move of a folder."""

    def arrange(act: Callable[[], object]) -> None:
        waiting = [act]

        def meddle(request: Request) -> None:
            if request.kind == "update" and waiting:
                waiting.pop()()

        monkeypatch.setattr(world.wire, "before", meddle)

    return arrange


def _two(world: DeliveryWorld) -> tuple[int, int]:
    """Deliver one series, so that its mirrored folder has been seen; reserve the ids of a second one."""
    world.deliver_all(world.convert(world.file_instances()))
    revision = world.convert(world.file_instances(uid="2"))
    world.ledger.database.execute("UPDATE series SET folder_name = 'two' WHERE series_id = 2")
    world.reserve(revision)
    return revision.key


# ── what is spared ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_series_in_a_folder_of_its_own_costs_three_requests(world: DeliveryWorld) -> None:
    """Beside one create and one read-back for each result: the folder, the mirrored one, the move."""
    world.deliver_all(world.convert(world.file_instances()))
    revisions = []
    for number in range(2, 6):
        folder_id = world.folder(f"CT {number}", world.exam_id)
        world.drive.get(folder_id)
        world.context.tree.chain(folder_id)
        revisions.append(world.convert(world.file_instances(uid=str(number), folder_id=folder_id)))
        world.reserve(revisions[-1])
    world.wire.reset()
    for revision in revisions:
        world.deliver(revision)

    assert len(world.wire.kinds) == 4 * (2 * RESULTS + 3)


def test_a_sighting_is_of_a_moment(world: DeliveryWorld) -> None:
    """Later the target is asked for again."""
    key = _two(world)
    moment = [0.0]
    presence = PresenceCache(lambda: moment[0])
    world.context = replace(world.context, presence=presence)
    presence.saw(world.children(world.output_id)[0].file_id)
    moment[0] = LASTS_S + 1
    world.wire.reset()
    world.deliver(world.revision(*key))

    assert len(world.wire.kinds) == 2 * RESULTS + 3


def test_after_a_long_upload_the_parents_are_read_before_the_move(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile a person may have moved the folder."""
    key = _two(world)
    clock = LaterClock()
    world.context = replace(world.context, clock=clock)
    upload = world.drive.upload

    def slow(**how):  # type: ignore[no-untyped-def]
        clock.ahead_s += STAGED_S
        return upload(**how)

    monkeypatch.setattr(world.drive, "upload", slow)
    world.wire.reset()
    world.deliver(world.revision(*key))

    assert world.wire.kinds[-2:] == ["get", "update"]


def test_a_new_process_has_seen_nothing(world: DeliveryWorld) -> None:
    """Sightings are not on disk: a crash cannot make an old one look new."""
    key = _two(world)
    world.restart()
    world.deliver(world.revision(*key))

    assert len(world.wire.kinds) == 2 * RESULTS + 3


# ── what people do in that moment ────────────────────────────────────────────────────────────────────────────────


def _delivered_beside(world: DeliveryWorld, key: tuple[int, int]) -> None:
    """The second series lies in a mirrored folder of its own that is not in the trash, whole, and once."""
    series = world.ledger.series.get(key[0])
    folder = world.drive.get(series.delivery_folder_id)
    assert not folder.trashed
    (mirror,) = [file for file in world.children(world.output_id) if file.file_id in folder.parents]
    assert [file.name for file in world.children(mirror.file_id)] == ["two"]
    assert set(world.results(key[0])) == {*FIRST, "manifest.json"}
    assert world.staged() == []


@pytest.mark.parametrize("what", ["trash", "delete"])
def test_a_target_that_goes_just_before_the_move_gets_no_delivery(
    world: DeliveryWorld, before_the_move: Callable[[Callable[[], object]], None], what: str
) -> None:
    """Drive takes a delivery into the trash without a word; its answer tells, and the delivery goes elsewhere."""
    key = _two(world)
    (mirror,) = world.children(world.output_id)
    if what == "trash":
        before_the_move(lambda: world.drive.set_trashed(mirror.file_id, True))
    else:
        before_the_move(lambda: world.drive.delete(mirror.file_id))

    assert isinstance(world.deliver(world.revision(*key)), Delivered)
    _delivered_beside(world, key)
    if what == "trash":
        thrown = world.drive.list_children(mirror.file_id, trashed=True).files
        assert [file.name for file in thrown] == [NAME]


@pytest.mark.parametrize(
    "ending", [Transient("STOPPING", "stop"), Transient("TIMEOUT", "no answer"), KeyboardInterrupt()]
)
def test_a_delivery_that_came_into_the_trash_is_brought_out_by_the_next_try(
    world: DeliveryWorld,
    before_the_move: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    ending: BaseException,
) -> None:
    """The step ends between the move into a folder in the trash and the move back: nobody would find it there."""
    key = _two(world)
    (mirror,) = world.children(world.output_id)
    before_the_move(lambda: world.drive.set_trashed(mirror.file_id, True))
    move, moves = world.drive.move, []

    def cut(file_id: str, **how: str) -> object:
        moves.append(how)
        if len(moves) == 2:
            raise ending
        return move(file_id, **how)

    monkeypatch.setattr(world.drive, "move", cut)
    with pytest.raises(type(ending)):
        world.deliver(world.revision(*key))
    world.restart()

    assert isinstance(world.deliver(world.revision(*key)), Delivered)
    _delivered_beside(world, key)


def test_a_delivery_that_a_person_threw_away_stays_there(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its move was not written down before the end of the process."""
    key = _two(world)
    folder_id = world.revision(*key).staging_folder_id
    assert isinstance(deliver(world.context, world.revision(*key)), Delivered)
    world.drive.set_trashed(folder_id, True)

    assert isinstance(world.deliver(world.revision(*key)), Delivered)
    assert world.drive.get(folder_id).explicitly_trashed


def test_who_makes_a_folder_holds_up_the_others_only_for_a_while(
    world: DeliveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request in a black hole lasts; who waits for it shows no progress, and would pass for hung."""
    monkeypatch.setattr(folders, "MAKING_AT_MOST_S", 0.01)
    for lock in folders._MAKING:
        lock.acquire()
    try:
        world.deliver_all(world.convert(world.file_instances()))
    finally:
        for lock in folders._MAKING:
            lock.release()

    assert len(world.tree()) == 1 + 1 + RESULTS


def test_an_output_folder_that_is_trashed_just_before_the_move_waits_for_a_person(
    world: DeliveryWorld, before_the_move: Callable[[Callable[[], object]], None]
) -> None:
    """The delivery stays in staging meanwhile."""
    key = _two(world)
    before_the_move(lambda: world.drive.set_trashed(world.output_id, True))
    with pytest.raises(Refused, match="OUTPUT_TRASHED"):
        world.deliver(world.revision(*key))
    assert [file.name for file in world.staged()] == ["two"]
    world.drive.set_trashed(world.output_id, False)

    assert isinstance(world.deliver(world.revision(*key)), Delivered)
    assert len(world.tree()) == 1 + 2 * (1 + RESULTS)


def test_a_folder_trashed_in_staging_just_before_the_move_abandons_the_attempt(
    world: DeliveryWorld, before_the_move: Callable[[Callable[[], object]], None]
) -> None:
    """The series is converted anew; there is one delivery in the end."""
    key = _two(world)
    folder_id = world.revision(*key).staging_folder_id
    before_the_move(lambda: world.drive.set_trashed(folder_id, True))

    assert world.deliver(world.revision(*key)) == Abandoned("STAGING_TRASHED")
    world.deliver_all(world.convert_again(*key))
    assert len(world.tree()) == 1 + 2 * (1 + RESULTS)


def test_a_folder_taken_out_of_staging_just_before_the_move_is_followed(
    world: DeliveryWorld, before_the_move: Callable[[Callable[[], object]], None]
) -> None:
    """It was whole already: it stays where the person put it."""
    key = _two(world)
    folder_id = world.revision(*key).staging_folder_id
    shelf = world.folder("shelf", world.top_id)
    root_id = folders.staging_root(world.context)
    before_the_move(lambda: world.drive.move(folder_id, to=shelf, from_=root_id))
    with pytest.raises(Transient, match="MOVED_MEANWHILE"):
        world.deliver(world.revision(*key))

    assert isinstance(world.deliver(world.revision(*key)), Delivered)
    assert world.drive.get(folder_id).parents == (shelf,)
    assert world.revision(*key).state is SeriesState.DELIVERED


def test_what_is_forgotten_is_asked_for() -> None:
    presence = PresenceCache()
    presence.saw("a")
    assert presence.is_fresh("a")
    presence.forget("a")

    assert not presence.is_fresh("a")
    assert not presence.is_fresh("never seen")
