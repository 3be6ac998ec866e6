"""Tests of tercel.h1."""
