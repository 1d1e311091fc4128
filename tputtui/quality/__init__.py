"""Whether two settings of an engine answer alike: sets of prompts, greedy answers, a paired test."""
