"""A deployment in the fields of OpenDP's registry of deployments, as far as a plan knows them.

References:
    https://github.com/opendp/deployments-registry-data, schemas/deployments-schema.yaml, of July 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Plan
from hushmeter.model.time import duration_text
from hushmeter.plan.changes import raw_rows_ms


def registry_entry(
    plan: Plan, budget: PrivacyBudget, longer_spans: Sequence[Mapping[str, object]], published_on: str | None
) -> dict[str, object]:
    """What a submission to the registry would say; what no plan knows (region, sector, sources) is left out.

    Args:
        plan: in force.
        budget: of one period.
        longer_spans: what spans of time cost at most, each with `span`, `epsilon` and `delta`.
        published_on: day of the first release (ISO 8601); None before there is any.
    """
    pure, period, unit = budget.currency is Currency.PURE, plan.privacy.period.name, plan.privacy.unit
    basic = {
        "name": plan.name,
        "data_curators": sorted({metric.owner for metric in plan.metrics}),
        "intended_use": " ".join(purpose.text for purpose in plan.purposes),
        "data_product_type": "Summary statistics",
        "description": "; ".join(f"{metric.name}: {metric.description}" for metric in plan.metrics),
    }
    costs = "; ".join(f"{c['span']}: epsilon {c['epsilon']:.4g}, delta {c['delta']:.3g}" for c in longer_spans)
    return {
        "basic": basic if published_on is None else {**basic, "publication_date": published_on},
        "dp_variant": {
            "variant_name": _variant(budget),
            "data_domain": f"Reports, each of one {unit}, of metrics that the plan declares, within its ranges.",
            "unprotected_quantities": "None. Schedules, prices and public partitions are functions of the plan.",
        },
        "privacy_loss": {
            "privacy_unit": f"{unit}, for one period of {period}",
            "privacy_unit_details": f"Two data sets are adjacent if one is the other with all that one {unit} reported, "
            f"decided and erased in one period of {period} added or removed.",
            "privacy_parameters": _parameters(budget),
            "privacy_parameters_details": f"The budget is new in each period, and periods add up: {costs}.",
        },
        "deployment_model": {
            "model_name": "Central",
            "actors": f"Each {unit} reports in the clear to the operator's service, which is trusted until it "
            f"destroys raw rows, after {duration_text(raw_rows_ms(plan))} at the latest. Whoever reads releases, the "
            "ledger or the public record is not trusted.",
            "release_type": "Many releases",
            "release_type_details": f"Every {' and '.join(r.name for r in plan.resolutions)}, on a schedule; the budget "
            f"renews every {period}.",
            "data_source_type": "Dynamic",
            "access_type": "Non-interactive",
        },
        "accounting": {
            "post_processing": "Estimates and intervals are linear maps of noisy integers; admissible ranges are applied "
            "when they are shown, and never enter sums.",
            "composition": f"Sequential composition of all releases of a period in {'epsilon' if pure else 'rho'}, added "
            "up as exact fractions in a hash-chained ledger; epsilon is derived once, at the end.",
        },
        "implementation": {
            "preprocessing_and_hyperparameter_tuning": "None on data: bounds and ranges are stated in the plan beforehand.",
            "mechanisms": f"Discrete {'Laplace' if pure else 'Gaussian'} noise on integers, and thresholds for private "
            "partitions, from the OpenDP library; no floating point before the noise.",
        },
    }


def _variant(budget: PrivacyBudget) -> str:
    if budget.currency is not Currency.PURE:
        return "Zero-concentrated DP"
    return "Approximate DP" if budget.loss.delta else "Pure DP"


def _parameters(budget: PrivacyBudget) -> dict[str, float]:
    if budget.currency is not Currency.PURE:
        return {"epsilon": budget.epsilon, "delta": budget.delta, "rho": float(budget.loss.amount)}
    return {"epsilon": budget.epsilon, "delta": budget.delta} if budget.loss.delta else {"epsilon": budget.epsilon}
