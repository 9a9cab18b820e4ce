"""`kharcha_database`: the published copy that analysts read."""

import dagster as dg

from kharcha_pipeline import __version__
from kharcha_pipeline.assets.daily_stage import BUILT_EVERY_NIGHT, OWNERS, TRY_AGAIN
from kharcha_pipeline.assets.daily_stages import DAILY_STAGES
from kharcha_pipeline.assets.pipeline import Pipeline


@dg.asset(
    name="kharcha_database",
    deps=[stage.name for stage in DAILY_STAGES],
    description=(
        "`kharcha.duckdb`, the copy for analysts: replaced as a whole by an atomic rename, readable at any moment. "
        "A blocking check that fails on any table before it keeps the last good copy in place."
    ),
    group_name="published",
    owners=OWNERS,
    kinds={"duckdb"},
    tags={"layer": "published"},
    code_version=__version__,
    freshness_policy=BUILT_EVERY_NIGHT,
    retry_policy=TRY_AGAIN,
)
def kharcha_database(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult[None]:
    """Publishes the warehouse when the copy is older than it."""
    replaced = pipeline.publish()
    path = pipeline.warehouse.published_path
    return dg.MaterializeResult(
        metadata={
            "replaced": replaced,
            "path": dg.MetadataValue.path(str(path)),
            "size_bytes": path.stat().st_size,
        }
    )
