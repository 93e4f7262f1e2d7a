"""What a model computes and which tensors it has, read from a checkpoint's config.json."""
