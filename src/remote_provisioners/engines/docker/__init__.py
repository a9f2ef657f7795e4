"""Docker, or Podman, as an engine: one container a kernel."""
