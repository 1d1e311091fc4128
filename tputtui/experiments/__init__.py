"""Experiments change settings by themselves and measure them: sweep, A/B, verify boot, tuner."""
