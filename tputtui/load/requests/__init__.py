"""Requests of real traffic: files of prompts, read, made into tokens, and sent as they were."""
