"""Scene classification as a tool: training, classification, evaluation, heat maps."""
