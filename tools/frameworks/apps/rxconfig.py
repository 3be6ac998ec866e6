"""Reflex reads its configuration from a module of this name."""

import reflex

config = reflex.Config(app_name="reflex_app", app_module_import="reflex_app")
