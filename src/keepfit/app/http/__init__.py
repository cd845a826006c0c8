"""HTTP routes, one file per noun. They translate and decide nothing."""
