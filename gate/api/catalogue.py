"""Routes of what submissions can name: policies and batteries."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Path

from checks.battery import load_battery, shipped_batteries
from checks.summary import BatterySummary, summarise
from gate.api.parts import PartsOfApp
from gate.api.problems import (
    POLICY_UNUSABLE,
    UNKNOWN_BATTERY,
    UNKNOWN_POLICY,
    ProblemError,
    problem_responses,
)
from gate.api.schemas import BatteryItem, BatteryList, PolicyItem, PolicyList, PolicyView
from gate.errors import PolicyError
from gate.policy import load_policy, policy_names
from gate.settings import Settings

router = APIRouter(prefix="/v1", tags=["catalogue"])

Name = Annotated[str, Path(description="Its name in the list.", examples=["default"])]
BatteryName = Annotated[str, Path(description="Its name in the list.", examples=["standard"])]


@router.get("/policies", response_model=PolicyList, summary="Policies that can be named")
def policies(parts: PartsOfApp) -> PolicyList:
    """All policies by name. A file that cannot be used is listed with what is wrong."""
    return PolicyList(
        items=[
            _policy_item(name, parts.settings)
            for name in policy_names(parts.settings.policy_directories)
        ]
    )


@router.get(
    "/policies/{name}",
    response_model=PolicyView,
    responses=problem_responses(404, 422),
    summary="A policy whole",
)
def policy(name: Name, parts: PartsOfApp) -> PolicyView:
    """Thresholds, required checks and what inconclusive means."""
    directories = parts.settings.policy_directories
    if name not in policy_names(directories):
        raise ProblemError.of(UNKNOWN_POLICY, f"There is no policy '{name}'.")
    try:
        return PolicyView.of(name, load_policy(name, directories))
    except PolicyError as error:
        raise ProblemError.of(POLICY_UNUSABLE, str(error)) from error


@router.get("/batteries", response_model=BatteryList, summary="Batteries that can be named")
def batteries() -> BatteryList:
    """All batteries by name."""
    return BatteryList(items=[_battery_item(name) for name in shipped_batteries()])


@router.get(
    "/batteries/{name}",
    response_model=BatterySummary,
    responses=problem_responses(404),
    summary="What a battery asks, in numbers",
)
def battery(name: BatteryName) -> BatterySummary:
    """Checks in order with prompts, subjects, forms, licence and source."""
    if name not in shipped_batteries():
        raise ProblemError.of(UNKNOWN_BATTERY, f"There is no battery '{name}'.")
    return _summary(name)


@lru_cache(maxsize=64)
def _summary(name: str) -> BatterySummary:
    """The shipped batteries do not change while a process runs, and reading them takes time."""
    return summarise(load_battery(name))


def _battery_item(name: str) -> BatteryItem:
    summary = _summary(name)
    return BatteryItem(
        name=name,
        version=summary.version,
        digest=summary.digest,
        elicitations=summary.elicitations,
        checks=[check.name for check in summary.checks],
    )


def _policy_item(name: str, settings: Settings) -> PolicyItem:
    try:
        found = load_policy(name, settings.policy_directories)
    except PolicyError as error:
        return PolicyItem(name=name, error=str(error))
    return PolicyItem(
        name=name,
        version=found.version,
        description=found.description,
        battery=found.battery,
        digest=found.digest,
    )
