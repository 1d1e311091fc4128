"""The synthetic load: its description (`workload`) and the due requests (`generator`). Pure."""
