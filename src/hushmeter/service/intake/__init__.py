"""From an admitted report or decision to durable rows in open segments."""
