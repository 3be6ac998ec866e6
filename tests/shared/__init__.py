"""Tests of tercel.shared."""
