"""An agent's file at work, without torch for ONNX models."""
