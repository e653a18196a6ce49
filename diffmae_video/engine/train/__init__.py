"""The training loops and the state they change."""
