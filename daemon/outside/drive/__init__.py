"""The outside world: Google Drive v3, through its official client."""
