"""What moved a model's output: attribution per measured channel and per wave, with checks that it means anything."""
