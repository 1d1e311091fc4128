"""A real vLLM engine in this process. Only this package touches vLLM and torch.

`internals` lists the private parts of both that this package relies on.
"""
