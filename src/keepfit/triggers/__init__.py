"""Triggers: is it time to retrain?"""
