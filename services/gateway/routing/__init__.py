"""Which endpoints serve a model, as the leading scheduler tells."""
