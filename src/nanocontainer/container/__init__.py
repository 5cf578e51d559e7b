"""Containers: what one is asked to be (spec), how that becomes a plan (planner), and its life (store, keeper, exec)."""
