"""All benchmarks in one go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.instruments.bench import __main__ as bench
from tests.instruments.bench.figures import Figure


@pytest.mark.parametrize(("measured", "code"), [(1.0, 0), (3.0, 1)])
def test_all_is_each_but_the_simulation(
    measured: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def module(name: str) -> SimpleNamespace:
        def run(_: object) -> list[Figure]:
            ran.append(name)
            return [Figure(f"figure of {name}", measured if name == "idle" else 1.0, most=2.0)]

        return SimpleNamespace(add_arguments=lambda _: None, run=run)

    monkeypatch.setattr(bench, "_module", module)

    assert bench.main(["all"]) == code
    assert sorted(ran) == sorted(set(bench.BENCHMARKS) - {"simulate"})
    # Once when it is measured, once in the table of all.
    assert capsys.readouterr().out.count("figure of quota") == 2
