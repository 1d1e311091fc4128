"""The synthetic load: what is asked for (`workload`) and who asks next (`generator`). Pure."""
