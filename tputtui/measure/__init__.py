"""What was measured: samples in (engine thread), frames out (whoever looks)."""
