"""A stub of NVIDIA's library in C, loaded by pynvml as the real one would be."""
