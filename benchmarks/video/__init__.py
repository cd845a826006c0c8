"""Programs that measure the video task: its data, its measures, and the scores that need no learning."""
