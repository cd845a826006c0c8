"""What the decisions of keepfit cost and how often they err, simulated and on real streams."""
