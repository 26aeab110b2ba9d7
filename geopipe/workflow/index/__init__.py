"""The index of chips as a tool: building, asking, judging, heat maps."""
