"""Makes Dagster's home ready, unmeasured."""

import os

from kharcha_pipeline.automation.home import dagster_home, prepare_home

if __name__ == "__main__":
    prepare_home(dagster_home(os.environ))
