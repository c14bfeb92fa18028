"""From the graph to ONNX and TFLite files in fp32."""
