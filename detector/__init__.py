"""Runtime anomaly detector for Kubernetes API-server audit logs; `pipeline.py` shows the whole path."""
