"""Whether two settings answer alike: sets of prompts, greedy answers, a paired test."""
