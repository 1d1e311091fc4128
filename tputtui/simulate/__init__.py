"""The simulation room: what a step costs on a device that is not here. Pure; knows no vLLM.

devices  what is on the datasheets
sizes    what a model weighs and computes
work     what a step is asked to do
cost     what that takes: from the datasheet, or from a calibration
memory   how large the KV cache is
clock    time that the simulation itself supplies
"""
