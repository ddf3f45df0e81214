"""What people and programs reach by HTTP: sessions, the API, figures; served by the engine's own process."""
