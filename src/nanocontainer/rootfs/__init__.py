"""The container's file system: layers by overlayfs, the kernel's own file systems, devices, mounts, the new root."""
