"""Kharcha Pipeline: coding-agent logs in, exact daily cost in DuckDB out.

Importing this package must stay free of everything but the standard library:
`kharcha sync` with nothing to do is faster than the import of any dependency.
"""

__version__ = "0.1.0"
