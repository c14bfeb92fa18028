"""From fp32 to INT8: recipes, quantization, bias correction."""
