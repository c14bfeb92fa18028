"""The strict INT8 form: integer inputs and outputs, for firmware without floating point."""
