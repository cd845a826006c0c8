"""Rollout: who gets the traffic?"""
