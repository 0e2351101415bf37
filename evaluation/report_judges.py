"""The judges' section of the page, from `judges.json`."""

from collections.abc import Mapping
from typing import Any

from .report_audit import cell
from .report_tables import DASH, name_of


def judges_section(judges: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs.

    Args:
        judges: What `judges.json` holds: `judges` by name and `agreement` by criterion.
    """
    each = [_judge(name, entry) for name, entry in judges["judges"].items()]
    agreement = [line for name, found in judges["agreement"].items() for line in _agreement(name, found)]
    return {"each": each, "agreement": agreement}


def _judge(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    criteria = list(dict.fromkeys(criterion for system in entry["systems"].values() for criterion in system))
    preferred = entry["preferences"]
    rows = []
    for system, found in entry["systems"].items():
        cells = [cell(found.get(criterion)) for criterion in criteria]
        if preferred:
            cells.append(_preference(preferred.get(system)))
        rows.append({"name": name_of(system), "kind": "model" if system == "model" else "condition", "cells": cells})
    columns = [*(f"{criterion}, 1 to 5" for criterion in criteria), *(["Model preferred to it"] if preferred else [])]
    return {
        "name": name,
        "verdict": entry["verdict"],
        "table": {"columns": columns, "rows": rows},
        "notes": [*_calibration(entry["calibration"]), *entry["notes"]],
    }


def _preference(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {"value": DASH, "range": ""}
    return {"value": f"{found['wins']} of {found['rows']}", "range": f"{found['losses']} lost, {found['ties']} tied"}


def _calibration(calibration: Mapping[str, Any]) -> list[str]:
    lines = []
    for criterion, found in calibration.items():
        areas = ", ".join(f"{kind} {cell(area)['value']}" for kind, area in found["auc"].items())
        if areas:
            lines.append(f"Calibration, {criterion}: the reference is scored above (share of pairs, 0.50 is chance) {areas}.")
    return lines


def _agreement(criterion: str, found: Mapping[str, Any]) -> list[str]:
    lines = []
    for pair in found["pairs"]:
        rho = cell(pair["spearman"])
        if pair["spearman"]["value"] is not None:
            lines.append(f"{criterion}: {' and '.join(pair['judges'])}: Spearman's rho {rho['value']} ({rho['range']}).")
    alpha = found.get("alpha")
    if alpha is not None and alpha["value"] is not None:
        lines.append(f"{criterion}: Krippendorff's alpha {cell(alpha)['value']} ({cell(alpha)['range']}).")
    if found["same_order"] is not None:
        lines.append(f"{criterion}: the judges order the systems {'alike' if found['same_order'] else 'differently'}.")
    return lines
