"""Tests of the vendor accounts."""
