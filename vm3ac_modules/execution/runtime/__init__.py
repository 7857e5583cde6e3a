"""Runs an agent's file, without torch for ONNX models."""
