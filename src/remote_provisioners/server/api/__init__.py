"""``/remote-provisioners/api/v1/``: documented in ``openapi.yaml``."""
