"""Lists and rules → rule_audit: what each rule did to every list."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.lake.data_files import file_batches
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.publishing import Report, publish_staged
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.rules.audit_rows import CLASS_COLUMNS, ClassFiles, audit_rows, item_classes
from recsys_spark.rules.steps.rule_base import RuleBase
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.contract import Table
from recsys_spark.tables.schemas import RULE_AUDIT
from recsys_spark.topk.rules import is_available


def publish_audit(run: Run, key: str, base: RuleBase, ids: DataFrame, provenance: Provenance) -> Report:
    """Publish what the rules did to the lists of the users in ``ids`` (``user_id``, once each).

    It is published before the lists, with their key: a run that is killed in between is completed by the same command.

    Raises:
        QualityError: the rules leave no candidate for any user; nothing is published.
    """
    available = base.frames.items.where(is_available(base.day))
    classes = item_classes(base.item_atoms(), available, [pin.item_id for pin in base.table.pins])
    schema = Table("", CLASS_COLUMNS, ()).arrow_schema
    with materialized(run, classes, broadcast=False) as stored:
        files = ClassFiles(stored.uris, schema, file_batches)
        rows = audit_rows(base.user_atoms(ids), files, base.table, base.book, base.day)
        staged = run.lake.stage(rows, RULE_AUDIT)
    row = run.lake.read_staged(run.spark, staged).agg(F.max("candidates"), F.max("remaining")).collect()[0]
    if row[0] and not row[1]:
        run.lake.discard(staged)
        raise QualityError(
            f"the rules of {base.book.file} leave none of {row[0]:,} candidates for any of {staged.rows:,} users; "
            "nothing was published: look for a condition that is always true, or never for 'require'"
        )
    return publish_staged(run, key, staged, provenance)
