"""What a worker process takes of a GPU beside its weights and its KV cache.

Both are generous estimates: what is planned too tightly ends an endpoint in mid-answer.
"""

CONTEXT_BYTES = 2**29  # the driver's context and loaded kernels, in no allocator's books
WORKING_BYTES = 2 * 2**30  # activations, workspaces and captured graphs
WORKER_BYTES = CONTEXT_BYTES + WORKING_BYTES
