"""Configuration keys of a rule base."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class RuleBaseOptions(JobConfig):
    """Rule base."""

    rules_file: str | None = Field(
        None,
        description="TOML file of rules that ban, require, boost, pin or diversify items by conditions on items, users "
        "and pairs of them; what they did to every list goes to the table 'rule_audit'",
    )
