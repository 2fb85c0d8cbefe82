"""Generated projects, and what their commands take."""
