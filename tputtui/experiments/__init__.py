"""What changes settings by itself and measures them: sweep, A/B, legs, verify boots, the tuner."""
