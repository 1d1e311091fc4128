"""Computes the cost of a step on a device that is not in this machine. Pure; knows no vLLM.

devices  figures from datasheets
sizes    parameters and dimensions of a model
work     the work of a step
cost     the time for that work, from the datasheet or from a calibration
memory   KV cache size of such a device
clock    the clock of the simulation
"""
