"""Tests of two arms: sample ratio, difference of means, CUPED, always-valid intervals, minimum detectable effect."""

import math
from dataclasses import dataclass, replace

from scipy import stats


@dataclass(frozen=True)
class Arm:
    """Moments of the users of an arm: of the metric during the test, and of the same metric before it (``_before``).

    Variances and the covariance have n − 1 in the denominator.
    """

    users: int
    mean: float
    variance: float
    mean_before: float = 0.0
    variance_before: float = 0.0
    covariance: float = 0.0


@dataclass(frozen=True)
class Effect:
    """The mean of the treatment minus that of the control, with an interval. Without variance there is none."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None = None


def sample_ratio_p_value(control: int, treatment: int, treatment_share: float) -> float:
    """The p-value of the arms' sizes if users are assigned with this share (chi-square; Fabijan et al., Diagnosing
    Sample Ratio Mismatch in Online Controlled Experiments, KDD 2019)."""
    users = control + treatment
    expected = [users * (1 - treatment_share), users * treatment_share]
    return float(stats.chisquare([control, treatment], expected).pvalue)


def difference(control: Arm, treatment: Arm, level: float) -> Effect:
    """The difference of two means with Welch's interval: it holds for one look, at a size fixed before."""
    value, error = treatment.mean - control.mean, _standard_error(control, treatment)
    if not error:
        return Effect(value, None, None)
    test = stats.ttest_ind_from_stats(
        treatment.mean, math.sqrt(treatment.variance), treatment.users,
        control.mean, math.sqrt(control.variance), control.users, equal_var=False,
    )  # fmt: skip
    parts = [(arm.variance / arm.users) for arm in (control, treatment)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (arm.users - 1) for part, arm in zip(parts, (control, treatment), strict=True)
    )
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Effect(value, value - half, value + half, float(test.pvalue))


def cuped(control: Arm, treatment: Arm) -> tuple[Arm, Arm, float]:
    """Both arms with the metric Y replaced by Y − θ·(X − mean of X), and θ; X is the metric before the test.

    θ = cov(Y, X) / var(X), pooled within the arms, minimises the variance, which becomes (1 − ρ²) times that of Y with
    the correlation ρ of X and Y (Deng, Xu, Kohavi and Walker, Improving the Sensitivity of Online Controlled
    Experiments by Utilizing Pre-Experiment Data, WSDM 2013). θ is 0 if X does not vary.
    """
    arms = (control, treatment)
    covariance, variance = (
        sum((arm.users - 1) * value for arm, value in zip(arms, values, strict=True))
        for values in ([arm.covariance for arm in arms], [arm.variance_before for arm in arms])
    )
    theta = covariance / variance if variance else 0.0
    before = sum(arm.users * arm.mean_before for arm in arms) / sum(arm.users for arm in arms)
    one, other = (
        replace(
            arm,
            mean=arm.mean - theta * (arm.mean_before - before),
            variance=max(arm.variance - 2 * theta * arm.covariance + theta**2 * arm.variance_before, 0.0),
        )
        for arm in arms
    )
    return one, other, theta


def always_valid(control: Arm, treatment: Arm, level: float, planned_users: int) -> Effect:
    """The difference of two means with an interval that holds at all looks together, however often one looks and
    whenever one stops: an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform
    Central Limit Theory and Asymptotic Confidence Sequences, Annals of Statistics 2024, theorem 2.2).

    With t users, α = 1 − level and σ² = var₁/p + var₀/(1 − p), where p is the share of the treatment (the variance of
    the pseudo-outcomes of the difference), the interval is value ± σ·√(2(tρ² + 1)/(t²ρ²)·ln(√(tρ² + 1)/α)). It is
    narrowest, for all ρ, at t = ``planned_users`` with ρ² = (−2 ln α + ln(−2 ln α) + 1) / planned_users.
    """
    value, error = treatment.mean - control.mean, _standard_error(control, treatment)
    if not error:
        return Effect(value, None, None)
    alpha, users = 1 - level, control.users + treatment.users
    rho = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned_users
    deviation = error * math.sqrt(users)
    radius = math.sqrt(2 * (users * rho + 1) / (users**2 * rho) * math.log(math.sqrt(users * rho + 1) / alpha))
    return Effect(value, value - deviation * radius, value + deviation * radius)


def minimum_detectable_effect(variance: float, users: int, treatment_share: float, level: float, power: float) -> float:
    """The smallest difference of two means that a test of ``users`` finds with probability ``power``:
    (z₁₋α⸝₂ + z_power)·√(variance·(1/n₀ + 1/n₁)), two-sided, by the normal approximation."""
    inverse = 1 / (users * (1 - treatment_share)) + 1 / (users * treatment_share)
    return _quantiles(level, power) * math.sqrt(variance * inverse)


def users_needed(variance: float, effect: float, treatment_share: float, level: float, power: float) -> int:
    """The number of users of both arms for which ``effect`` is the minimum detectable effect."""
    inverse = 1 / (1 - treatment_share) + 1 / treatment_share
    return math.ceil(_quantiles(level, power) ** 2 * variance * inverse / effect**2)


def _quantiles(level: float, power: float) -> float:
    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))


def _standard_error(control: Arm, treatment: Arm) -> float:
    return math.sqrt(control.variance / control.users + treatment.variance / treatment.users)
