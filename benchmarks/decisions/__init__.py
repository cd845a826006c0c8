"""The proof of the decision layer: alarms, retrainings and what they are made from, on real and injected streams."""
