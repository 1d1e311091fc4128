"""What was measured: the engine thread records samples, the front end computes figures of them."""
