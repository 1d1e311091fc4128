"""The screen. Main thread (asyncio): it reads frames and calls the session, nothing else."""
