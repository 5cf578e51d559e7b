"""A container's network: its namespace, the bridge it hangs on, its address, its published ports, its names."""
