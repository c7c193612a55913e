"""From units to speech: generators, their training, and what measures them."""
