"""Folders that run without torch: ONNX Runtime, OpenVINO, CTranslate2, and torch's own archive."""
