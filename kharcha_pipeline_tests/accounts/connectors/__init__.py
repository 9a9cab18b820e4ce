"""Tests of the connectors, one module each."""
