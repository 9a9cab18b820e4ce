"""`python -m kharcha_pipeline`: the same as `kharcha`, for whoever has an interpreter and no path to the program."""

from kharcha_pipeline.cli.main import program

program()
