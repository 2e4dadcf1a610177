"""Fault scripts: their text, their seed, counts and time windows; `drive serve --faults`; the whole history."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.localdrive.faults import script as script_module
from daemon.localdrive.faults.actions import Ask
from daemon.localdrive.faults.matching import Faults, rule_from
from daemon.localdrive.faults.script import BadScript, parse
from tests.localdrive.conftest import Bench, eventually
from tests.localdrive.raw import Session, ask
from tests.support.drive import DriveServer

ROOT = Path(__file__).resolve().parents[2]
LIST = Ask("GET", "/drive/v3/files", "pageSize=10", "list")
GET = Ask("GET", "/drive/v3/files/1abc", "", "get")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def in_force(*rules: dict[str, Any], seed: int = 0, clock: Callable[[], float] = Clock()) -> Faults:
    faults = Faults(clock)
    faults.replace([rule_from(rule) for rule in rules], seed)
    return faults


def met(faults: Faults, *asks: Ask) -> list[str]:
    found = [faults.match(ask) for ask in asks]
    return [fault.rule.action if fault is not None else "" for fault in found]


class TestMeeting:
    def test_the_same_seed_and_requests_meet_the_same_faults(self) -> None:
        rules = [
            {"action": "delay", "kind": "list", "times": -1, "probability": 0.3},
            {"action": "status", "times": -1, "probability": 0.3},
        ]
        asks = [LIST, GET] * 50
        first, again, other = (met(in_force(*rules, seed=seed), *asks) for seed in (1, 1, 2))

        assert first == again != other
        assert 20 < sum(map(bool, first)) < 65

    def test_a_rule_draws_its_own_row(self) -> None:
        """More requests of another kind, or another rule's chance, change nothing about which lists meet it."""
        rule = {"action": "delay", "kind": "list", "times": -1, "probability": 0.5}
        alone = met(in_force(rule, seed=9), *[LIST] * 30)
        among = met(in_force(rule, {"kind": "get", "probability": 0.5}, seed=9), *[GET, LIST, GET] * 30)

        assert among[1::3] == alone

    def test_counts(self) -> None:
        faults = in_force({"kind": "list", "after": 2, "times": 2})

        assert met(faults, LIST, GET, LIST, LIST, LIST, LIST) == ["", "", "", "status", "status", ""]

    def test_a_window_of_time(self) -> None:
        clock = Clock()
        faults = in_force({"from_s": 10.0, "until_s": 20.0, "times": -1}, clock=clock)
        found = []
        for clock.now in (100.0, 109.9, 110.0, 119.9, 120.0):
            found += met(faults, LIST)

        assert found == ["", "", "status", "status", ""]

    def test_the_first_rule_that_meets_wins(self) -> None:
        faults = in_force({"action": "delay"}, {"action": "html", "times": -1})

        assert met(faults, LIST, LIST) == ["delay", "html"]


class TestText:
    def test_the_example_of_the_documentation_is_a_script(self) -> None:
        lines = (script_module.__doc__ or "").split("\n")
        example = parse("\n".join(line[4:] for line in lines if line.startswith("    ") or not line))

        assert example.seed == 7
        assert example.settings["quota_model"] == "bucket"
        assert [rule.action for rule in example.rules] == ["truncate", "cut_after", "rate_limit"]

    def test_json_says_the_same(self) -> None:
        toml = parse('seed = 3\n[settings]\nlatency_s = 1\n[[faults]]\naction = "delay"\ndelay_s = 2\n')
        as_json = parse(
            '{"seed": 3, "settings": {"latency_s": 1}, "faults": [{"action": "delay", "delay_s": 2}]}'
        )

        assert toml == as_json

    def test_every_problem_is_told_at_once(self) -> None:
        text = """
            seed = "x"
            other = 1
            [settings]
            latncy_s = 1
            [[faults]]
            action = "explode"
            [[faults]]
            pth = "x"
            [[faults]]
            path = "("
            [[faults]]
            times = "many"
            [[faults]]
            probability = 2.0
            [[faults]]
            action = "short"
            framing = "odd"
        """
        with pytest.raises(BadScript) as caught:
            parse("\n".join(line.strip() for line in text.splitlines()))

        said = str(caught.value)
        for problem in (
            "unknown key other", "seed must be an integer", "unknown setting latncy_s",
            "fault 1: unknown action explode", "fault 2: unknown key pth", "fault 3: path is no regular expression",
            "fault 4: wrong type for times", "fault 5: probability", "fault 6: framing is one of",
        ):  # fmt: skip
            assert problem in said

    @pytest.mark.parametrize("text", ["a = ", "{", "[[faults]"])
    def test_a_text_that_is_neither(self, text: str) -> None:
        with pytest.raises(BadScript, match="neither TOML nor JSON"):
            parse(text)

    def test_a_refused_script_changes_nothing(self, bench: Bench) -> None:
        bench.server.script({"action": "delay", "kind": "upload"}, latency_s=0.001)
        with pytest.raises(ValueError, match="unknown action"):
            bench.server.script({"action": "explode"}, latency_s=9.0)

        assert bench.server.faults()[0]["action"] == "delay"
        assert bench.server.admin("GET", "settings")["latency_s"] == 0.001

    def test_a_script_begins_from_the_start(self, bench: Bench) -> None:
        for _ in range(2):
            bench.server.script({"action": "status", "kind": "list"})
            answers = [ask(bench.server, "GET", "/drive/v3/files").status for _ in range(2)]
            assert answers == [503, 200]


class TestServed:
    """`sdd-dicom drive serve DIRECTORY --faults FILE`."""

    @pytest.fixture
    def serve(self, tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
        started: list[subprocess.Popen[str]] = []

        def start(faults: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "daemon.cli", "drive", "serve", str(tmp_path / "drive")]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            environment.pop("SDD_DRIVE_TOKEN", None)
            process = subprocess.Popen(
                [*command, "--faults", str(faults)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)

    def status(self, endpoint: str) -> int:
        try:
            with urllib.request.urlopen(f"{endpoint}/drive/v3/files", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code

    def test_it_misbehaves_and_follows_the_file(
        self, tmp_path: Path, serve: Callable[[Path], subprocess.Popen[str]]
    ) -> None:
        file = tmp_path / "faults.toml"
        file.write_text('[[faults]]\naction = "status"\nstatus = 500\ntimes = -1\n')
        process = serve(file)
        assert process.stdout is not None
        endpoint = process.stdout.readline().split()[-1]
        before = self.status(endpoint)
        file.write_text("[[faults]]\nbroken")
        assert process.stderr is not None
        while "neither TOML nor JSON" not in process.stderr.readline():
            assert process.poll() is None
        still = self.status(endpoint)
        file.write_text('[[faults]]\naction = "status"\nstatus = 502\ntimes = -1\n')

        assert (before, still) == (500, 500)
        assert eventually(lambda: self.status(endpoint) == 502)
        with urllib.request.urlopen(f"{endpoint}/_admin/history/requests", timeout=5) as answer:
            requests = json.loads(answer.read())["requests"]
        assert {entry["status"] for entry in requests} >= {500, 502}

    def test_a_wrong_script_is_told_at_start(
        self, tmp_path: Path, serve: Callable[[Path], subprocess.Popen[str]]
    ) -> None:
        file = tmp_path / "faults.toml"
        file.write_text('[[faults]]\naction = "explode"\n')
        process = serve(file)
        _, said = process.communicate(timeout=20)

        assert process.returncode == 2
        assert "fault 1: unknown action explode" in said


class TestHistory:
    def test_an_effect_bears_its_requests_number(self, bench: Bench) -> None:
        last = bench.server.history()[-1]["seq"]
        made = bench.upload("a")
        bench.update(made["id"], {"name": "b"})
        (bench.path / "dropped").write_bytes(b"1")
        bench.server.scan()
        numbers = [effect["request"] for effect in bench.server.history(last)]
        requests = {entry["seq"]: entry for entry in bench.server.every_request()}

        assert [requests[n]["method"] for n in numbers[:2]] == ["POST", "PATCH"]
        assert [requests[n]["effects"] for n in numbers[:2]] == [[made["id"]]] * 2
        assert numbers[2] == 0

    def test_a_request_tells_fault_and_true_answer(self, bench: Bench) -> None:
        bench.server.script({"kind": "get"}, {"action": "status_after", "method": "POST", "status": 500})
        bench.server.clear_requests()
        ask(bench.server, "POST", "/drive/v3/files", {"name": "made", "parents": [bench.home]})
        entry = bench.server.every_request()[-1]

        assert (entry["fault"], entry["rule"], entry["status"]) == ("status_after", 1, 500)
        assert entry["true_status"] == 200
        assert len(entry["effects"]) == 1
        assert entry["bytes_in"] > 0

    def test_a_lost_answer_has_no_status_but_its_effect(self, bench: Bench) -> None:
        bench.server.fault(action="cut_after", method="POST")
        with pytest.raises(ConnectionError):
            ask(bench.server, "POST", "/drive/v3/files", {"name": "made", "parents": [bench.home]})
        entry = bench.server.every_request()[-1]

        assert (entry["status"], entry["true_status"], len(entry["effects"])) == (0, 200, 1)

    def test_ids_and_sessions_can_be_followed(self, bench: Bench) -> None:
        file_id = bench.new_id()
        session = Session(bench.server, {"name": "made", "id": file_id, "parents": [bench.home]}, 5)
        session.put(b"bytes", 0)
        reserve, start, chunk = bench.server.every_request()[-3:]

        assert reserve["reserved_ids"] == [file_id]
        assert start["session"] == chunk["session"]
        assert chunk["effects"] == [file_id]
        assert start["session"] not in session.target

    def test_numbers_go_on_after_a_kill(self, make_server: Callable[..., DriveServer]) -> None:
        server = make_server()
        for _ in range(3):
            ask(server, "GET", "/drive/v3/files")
        server.fault(action="stall", method="POST")
        with pytest.raises(TimeoutError):
            ask(server, "POST", "/drive/v3/files", {"name": "never"}, timeout=0.2)
        ask(server, "GET", "/drive/v3/files")
        server.kill()
        server.start()
        ask(server, "GET", "/drive/v3/files")
        requests = server.every_request()

        assert [entry["seq"] for entry in requests] == [1, 2, 3, 4, 5, 6]
        # The fifth was answered, but the kill may have come before that was noted.
        assert [entry["status"] for entry in requests][:4] == [200, 200, 200, 0]
        assert requests[4]["status"] in (0, 200)
        assert requests[5]["status"] == 200
        assert server.every_request(after=4) == requests[4:]

    def test_a_request_in_which_the_server_dies_is_told_too(
        self, make_server: Callable[..., DriveServer]
    ) -> None:
        server = make_server()
        server.fault(action="stall_after", method="POST")
        with pytest.raises(TimeoutError):
            ask(server, "POST", "/drive/v3/files", {"name": "made"}, timeout=0.2)
        server.fault(action="stall")
        with pytest.raises(TimeoutError):
            ask(server, "GET", "/drive/v3/files", timeout=0.0001)
        server.kill()
        server.start()
        (effect,) = server.history()

        assert server.every_request()[0]["seq"] == effect["request"] == 1
