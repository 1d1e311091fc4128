"""What a setting would give: step costs learnt from the engine's own steps, and a small scheduler.

book       the steps that are kept for learning
kept_steps the same on disk, for the next boot of the same engine
costs      what a step costs, fitted to them
scheduler  a load served with limits by those costs, in virtual time
forecast   what that gives: tokens/s, goodput, latencies against the goals
outlook    what another value of a limit would do, beside what the setting in force gives
process    the same in a process of its own, which takes nothing from the engine
"""
