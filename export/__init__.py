"""From a checkpoint to a signed bundle: graph, ONNX and TFLite, INT8, parity gates, signature."""
