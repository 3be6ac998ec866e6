"""Tests of tercel.certs."""
