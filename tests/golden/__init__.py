"""Golden alerts: each scenario under `sample_logs/scenarios` has the alerts it must give beside it.

`make generate` writes them anew; a change of them is for a person to read.
"""
