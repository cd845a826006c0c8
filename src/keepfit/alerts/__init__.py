"""Alerts: who must know?"""
