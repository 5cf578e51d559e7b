"""Images: names, registries, layers on disk. `store` is read on the hot path; the rest is imported where it is used."""
