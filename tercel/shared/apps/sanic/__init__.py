"""Sanic applications: the adapter that serves them. Imported only when such one is given."""
