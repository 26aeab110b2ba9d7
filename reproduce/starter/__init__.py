"""The starter model, and how it does where it was not trained."""
