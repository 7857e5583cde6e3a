"""The paper's algebra as pure functions of tensors: no state, no keys, no configuration."""
