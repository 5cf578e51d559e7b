"""The process: namespaces, cgroups, identity, confinement, and the command that it becomes."""
