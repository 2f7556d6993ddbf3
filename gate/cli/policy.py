"""``emgate policy``: list, show and plan policies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from sqlalchemy.engine import make_url

from checks.battery import BatteryError, load_battery
from checks.calibration import Calibration, shipped_calibration
from checks.gold import GoldError, GoldSet, load_gold
from checks.judge_errors import JudgeErrors
from checks.judgement import Label
from gate.cli.app import ExitCode
from gate.cli.plain import folding_table, plain, plain_cells
from gate.errors import GateError, WrongUsageError
from gate.plan_cost import Cost
from gate.planning import ConditionPlan, Pass, PolicyPlan, plan_policy
from gate.policy import Condition, Policy, load_policy, policy_names
from gate.settings import Settings, settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore

policy = typer.Typer(help="List, show and plan policies.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a policy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@policy.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show all policies: the shipped ones, and those in GATE_POLICY_DIRECTORIES."""
    found = [_load(name) for name in policy_names(settings().policy_directories)]
    if as_json:
        _print_json(
            [
                {
                    **p.model_dump(mode="json", include={"name", "version", "battery", "alpha"}),
                    "conditions": len(p.conditions),
                    "digest": p.digest,
                }
                for p in found
            ]
        )
        return
    table = folding_table(
        "policy", "version", "battery", "alpha", "conditions", "description", whole_first=True
    )
    for p in found:
        version, conditions = str(p.version), str(len(p.conditions))
        table.add_row(
            *plain_cells(p.name, version, p.battery, f"{p.alpha:g}", conditions, p.description)
        )
    Console().print(table)


@policy.command()
def show(name: Name = "default", as_json: AsJson = False) -> None:
    """Show a policy's conditions, and how often each bound of their intervals may be wrong."""
    found = _load(name)
    if as_json:
        _print_json({**found.model_dump(mode="json"), "digest": found.digest})
        return
    typer.echo(f"{found.name}, version {found.version}, {found.digest}")
    typer.echo(plain(found.description))
    typer.echo(
        f"battery {found.battery}, alpha {found.alpha:g}, stopping {found.stopping}, "
        f"inconclusive: {found.inconclusive}; judge: sensitivity at least "
        f"{found.judge.sensitivity:g}, specificity at least {found.judge.specificity:g}"
    )
    table = folding_table(
        "check", "threshold", "required", "wrong pass", "wrong fail", whole_first=True
    )
    for condition in found.conditions:
        levels = found.levels(condition, contexts=True)
        passing, failing = levels.upper, levels.lower
        if condition.at_least is not None:
            passing, failing = failing, passing
        required = "yes" if condition.required else "no"
        if condition.required and condition.needs_training_sample:
            required = "with a training sample"
        table.add_row(
            *plain_cells(
                condition.check, _threshold(condition), required, f"{passing:g}", f"{failing:.2g}"
            )
        )
    Console().print(table)


@policy.command()
def plan(
    name: Annotated[str, typer.Option("--policy", help="Name of the policy.")] = "default",
    battery: Annotated[
        str | None, typer.Option(help="Battery by name or file, if not the policy's.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, max=1, help="Failures per answer of the second model.")
    ] = 0.01,
    sensitivity: Annotated[
        float | None, typer.Option(min=0, max=1, help="The judge's, if none is calibrated.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(min=0, max=1, help="The judge's, if none is calibrated.")
    ] = None,
    training_sample: Annotated[
        bool, typer.Option("--training-sample", help="Plan for submissions that bring one.")
    ] = False,
    price: Annotated[
        float | None,
        typer.Option("--price-per-1k-answers", min=0, help="What judging 1000 answers costs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how many prompts and answers a pass takes, and which thresholds cannot be reached.

    Two models are planned for: one without any failure, and one with a small rate of them. The
    judge is the one that was calibrated last, or else the embedded one with its shipped figures,
    unless error rates are given. Nothing is run.
    Exit codes: 0 every required condition can be met, 1 one is out of reach, 2 wrong usage.

    Example: emgate policy plan --policy default --specificity 0.98 --price-per-1k-answers 1.5
    """
    try:
        wanted = load_policy(name, settings().policy_directories)
        questions = load_battery(battery or wanted.battery)
        if battery is not None:
            wanted = wanted.over([check.name for check in questions.checks])
        gold = load_gold(settings().gold_set)
        judge, source = _judge(settings(), gold, sensitivity, specificity)
    except (GateError, BatteryError, GoldError) as error:
        _stop(error)
    made = plan_policy(wanted, questions, judge, rate, training_sample)
    if as_json:
        _print_json(
            {
                **made.model_dump(mode="json"),
                "judge_source": source,
                "price_without_failure": _price(made.cost_without_failure, price),
                "price_with_rate": _price(made.cost_with_rate, price),
            }
        )
    else:
        _print_plan(made, source, price)
    if not made.reachable:
        sys.exit(ExitCode.FAIL)


def _load(name: str) -> Policy:
    try:
        return load_policy(name, settings().policy_directories)
    except GateError as error:
        _stop(error)


def _judge(
    current: Settings, gold: GoldSet, sensitivity: float | None, specificity: float | None
) -> tuple[JudgeErrors, str]:
    """The error counts of the judge to plan with, and in words where they come from."""
    stored = _stored(current, gold.digest)
    calibration = stored or _shipped(current, gold.digest)
    known = calibration.errors if calibration else None
    if calibration and known and sensitivity is None and specificity is None:
        which = "newest" if stored else "shipped"
        return known, f"the {which} calibration, of {calibration.judge}"
    labels = [answer.label for answer in gold.answers]
    misaligned, aligned = labels.count(Label.MISALIGNED), labels.count(Label.ALIGNED)
    source = "given, on a gold set of this size"
    if sensitivity is None and specificity is None:
        source = "no calibration is stored, so a judge without errors is assumed"
    if sensitivity is None:
        sensitivity = known.sensitivity if known else 1.0
    if specificity is None:
        specificity = known.specificity if known else 1.0
    errors = JudgeErrors(
        found=round(sensitivity * misaligned),
        misaligned=misaligned,
        cleared=round(specificity * aligned),
        aligned=aligned,
    )
    return errors, source


def _stored(current: Settings, gold_digest: str) -> Calibration | None:
    """The newest calibration in the record; a record that is not there is not made for it."""
    location = make_url(current.database)
    if location.get_backend_name() == "sqlite" and not Path(location.database or "").is_file():
        return None
    return JudgeStore(open_database(current.database)).newest_calibration(gold_digest)


def _shipped(current: Settings, gold_digest: str) -> Calibration | None:
    """The embedded judge's calibration, if that judge and the shipped gold set are in force."""
    found = shipped_calibration()
    return found if (current.judge, gold_digest) == (found.judge, found.gold_digest) else None


def _print_plan(made: PolicyPlan, source: str, price: float | None) -> None:
    judge = made.judge
    typer.echo(f"policy {made.policy}, battery {made.battery}, alpha {made.alpha:g}")
    typer.echo(
        f"judge: sensitivity {judge.sensitivity:.3f}, specificity {judge.specificity:.3f} "
        f"({source})"
    )
    table = folding_table(
        "check",
        "threshold",
        "prompts",
        "needed",
        "no failure",
        f"rate {made.rate:g}",
        whole_first=True,
    )
    for each in made.conditions:
        needed = "-" if each.needed is None else str(each.needed)
        table.add_row(
            *plain_cells(
                each.condition.check + ("" if each.condition.required else " *"),
                _threshold(each.condition),
                str(each.prompts),
                needed,
                _passing(each, each.without_failure),
                _passing(each, each.with_rate),
            )
        )
    Console().print(table)
    typer.echo(
        "prompts: those that the metric counts; needed: of them, by a model without failure; "
        "then prompts: answers (+ the base's) until the round that ends in a pass; * not required"
    )
    for each in made.conditions:
        if each.note:
            typer.echo(plain(f"{each.condition.check}: {each.note}"))
    _print_cost("without failure", made.cost_without_failure, price)
    _print_cost(f"at a rate of {made.rate:g}", made.cost_with_rate, price)


def _passing(plan: ConditionPlan, passing: Pass) -> str:
    if passing.rounds is None:
        return "none passes" if not passing.share else f"{passing.share:.0%} pass"
    base = f" + {passing.answers}" if plan.compared else ""
    share = f", {passing.share:.0%} pass" if passing.share < 1 else ""
    return f"{passing.prompts}: {passing.answers}{base}{share}"


def _print_cost(who: str, cost: Cost | None, price: float | None) -> None:
    if cost is None:
        typer.echo(f"{who}: no pass within this battery")
        return
    paid = "" if price is None else f", {_price(cost, price):.2f} at {price:g} per 1000 answers"
    typer.echo(
        f"{who}: a pass takes {cost.candidate_answers} answers of the candidate and "
        f"{cost.base_answers} of the base (once), at most {cost.tokens_at_most} tokens written; "
        f"{cost.ratings} answers to rate{paid}; an endpoint judge gets {cost.judge_requests} "
        f"requests and reads at most some {cost.judge_tokens} tokens"
    )


def _price(cost: Cost | None, price: float | None) -> float | None:
    return None if cost is None or price is None else cost.ratings * price / 1000


def _threshold(condition: Condition) -> str:
    side = "<=" if condition.at_most is not None else ">="
    return f"{side} {condition.threshold:g}"


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=2))


def _stop(error: Exception) -> NoReturn:
    typer.echo(plain(f"emgate: {error}"), err=True)
    broken = isinstance(error, GateError) and not isinstance(error, WrongUsageError)
    sys.exit(ExitCode.BROKEN if broken else ExitCode.USAGE)
