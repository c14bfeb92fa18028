"""Figures that stand: discrimination and calibration with intervals, the floor to beat, the model card."""
