"""Backtest: what would another policy of retraining have cost on the traffic that was?"""
