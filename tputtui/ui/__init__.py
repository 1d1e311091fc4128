"""The screen. Main thread (asyncio); reads frames, gives orders to the session, nothing else."""
