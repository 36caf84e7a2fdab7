"""Graphs of a model that other engines run: ONNX Runtime and OpenVINO."""
